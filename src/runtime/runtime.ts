// SPDX-License-Identifier: Apache-2.0
import type { RuntimePins } from "./pins.ts";

/** Where a library came from: a directory the user named, the system, or the package we pin. */
export type LibrarySource = "explicit" | "system" | "pinned";

export interface LibraryInfo {
  readonly path: string;
  readonly source: LibrarySource;
  /** Known for pinned libraries only. */
  readonly version?: string | undefined;
}

/** What a VMM needs from outside this package. */
export interface Runtime {
  /** Path of the kernel: an ELF64 with a PVH note on x86-64, an Image on arm64. Its content was checked just now. */
  readonly kernel: string;
  readonly libkrunfw: LibraryInfo;
  /** There when asked for. */
  readonly libkrun?: LibraryInfo | undefined;
}

/** Progress of `locateRuntime`, in the order it happens. */
export type RuntimeEvent =
  | {
      readonly type: "found";
      readonly library: string;
      readonly path: string;
      readonly source: LibrarySource;
    }
  | { readonly type: "rejected"; readonly path: string; readonly reason: string }
  | {
      readonly type: "fetching";
      readonly library: string;
      readonly package: string;
      readonly version: string;
      readonly receivedBytes: number;
      readonly totalBytes: number;
    }
  | { readonly type: "fetched"; readonly library: string; readonly path: string }
  | { readonly type: "kernel"; readonly path: string };

export interface LocateRuntimeOptions {
  /** The user's cache directory; everything goes under its `runtime/`. */
  readonly cacheDir: string;
  /** Looked at before anything else, and then it must have libkrunfw. Default: `MICROVM_LIBKRUN_DIR`. */
  readonly libraryDir?: string | undefined;
  /** Also find or fetch libkrun, which only the libkrun backend needs. Default: false. */
  readonly libkrun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: RuntimeEvent) => void) | undefined;
  /** For tests: other packages than ours. */
  readonly pins?: RuntimePins | undefined;
  /** For tests: other places than the system's. */
  readonly systemDirs?: readonly string[] | undefined;
}
