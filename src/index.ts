// SPDX-License-Identifier: Apache-2.0
export { type ErrorCode, MicrovmError, type Stage } from "./errors.ts";
export type { BootStage, RunEvent } from "./events.ts";
export { ExecError, type ExecOptions, type ExecProcess, type ExecResult } from "./exec.ts";
export type { Backend } from "./hypervisor/index.ts";
export { qemu } from "./hypervisor/index.ts";
export type { ImageConfig, PullEvent, StoredImage } from "./image/index.ts";
export type { OutputRecord } from "./machine/index.ts";
export { getVm, listVms, run } from "./microvm.ts";
export type { NetworkAttachment, NetworkProvider } from "./net/index.ts";
export type { RunOptions } from "./options.ts";
export { VM, type VmInfo, type VmState } from "./vm.ts";
