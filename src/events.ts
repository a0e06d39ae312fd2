// SPDX-License-Identifier: Apache-2.0
import type { PullEvent } from "./image/index.ts";
import type { RuntimeEvent } from "./runtime/index.ts";

/** One stage of a boot, in milliseconds after the start of `run`. */
export interface BootStage {
  readonly name: string;
  readonly beginMs: number;
  readonly endMs: number;
}

/** Progress of `run`, in the order in which it happens. */
export type RunEvent =
  | { readonly type: "pull"; readonly event: PullEvent }
  | { readonly type: "runtime"; readonly event: RuntimeEvent }
  | {
      readonly type: "backend";
      readonly name: string;
      readonly acceleration: string;
      /** One plain sentence when it works, but not well. */
      readonly warning: string | undefined;
    }
  | { readonly type: "stage"; readonly stage: BootStage };
