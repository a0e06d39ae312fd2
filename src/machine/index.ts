// SPDX-License-Identifier: Apache-2.0
export { machineSpec } from "./config.ts";
export { localHandle, type MachineHandle, openHandle } from "./handle.ts";
export { Machine, type MachineContext } from "./machine.ts";
export type { OutputSink } from "./output.ts";
export { type OutputRecord, type OutputStream, readOutputLog } from "./output-log.ts";
export { claim, isOwned, removeOrphans } from "./owner.ts";
export { recordOf } from "./record.ts";
export { removeFiles } from "./remove.ts";
export type { MachineSpec, ProcessSpec, TmpfsSpec } from "./spec.ts";
export { Timeline } from "./timeline.ts";
export { mergeEnv, processDefaults, stopSignalOf, workloadOf } from "./workload.ts";
