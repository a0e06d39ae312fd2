// SPDX-License-Identifier: Apache-2.0
import type { ErrorCode, Stage } from "../errors.ts";
import { MicrovmError } from "../errors.ts";
import type { BootStage } from "../events.ts";
import type { Dirs } from "../internal/dirs.ts";
import type { MachineSpec } from "../machine/index.ts";

// What caller and monitor say to each other over an inherited socket, one JSON text a line: the order first, then
// its progress, then how it went. A caller that goes away before that has changed its mind.

/** What the monitor is to do. */
export interface MonitorOrder {
  readonly spec: MachineSpec;
  readonly dirs: Dirs;
}

/** What the monitor has to say. */
export type MonitorReport =
  | { readonly type: "stage"; readonly stage: BootStage }
  | { readonly type: "started" }
  | { readonly type: "failed"; readonly error: ErrorText };

/** A `MicrovmError` between processes. */
export interface ErrorText {
  readonly code: ErrorCode;
  readonly stage: Stage;
  readonly message: string;
  readonly hint: string | undefined;
  readonly evidence: Readonly<Record<string, string | number>>;
}

export function errorText(error: MicrovmError): ErrorText {
  const { code, stage, message, hint, evidence } = error;
  return { code, stage, message, hint, evidence };
}

export function errorOf({ code, message, stage, hint, evidence }: ErrorText): MicrovmError {
  return new MicrovmError(code, message, { stage, hint, evidence });
}
