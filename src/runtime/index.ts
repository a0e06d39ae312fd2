// SPDX-License-Identifier: Apache-2.0
export { locateRuntime } from "./locate.ts";
export type {
  LibraryInfo,
  LibrarySource,
  LocateRuntimeOptions,
  Runtime,
  RuntimeEvent,
} from "./runtime.ts";
