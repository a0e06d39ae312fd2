// SPDX-License-Identifier: Apache-2.0
export type {
  Acceleration,
  Availability,
  Backend,
  Vmm,
  VmmConfig,
  VmmDisk,
  VmmExit,
  VmmExitReason,
  VmmNic,
} from "./backend.ts";
export { type QemuOptions, qemu } from "./qemu/index.ts";
export { BACKEND_NAMES, type SelectedBackend, selectBackend } from "./select.ts";
