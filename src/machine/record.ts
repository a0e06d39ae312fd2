// SPDX-License-Identifier: Apache-2.0
import type { VmRecord } from "../state/index.ts";
import type { MachineSpec } from "./spec.ts";

/** What the registry keeps of a machine. Its environment may hold secrets: that stays with the machine. */
export function recordOf(spec: MachineSpec): VmRecord {
  return {
    id: spec.id,
    name: spec.name,
    dir: spec.dir,
    socketPath: spec.socketPath,
    imageReference: spec.image.reference,
    imageId: spec.image.id,
    command: spec.workload?.args ?? [],
    labels: spec.labels,
    autoRemove: spec.autoRemove,
    createdAt: spec.createdAt,
    startedAt: undefined,
    finishedAt: undefined,
    exitCode: undefined,
    error: undefined,
    details: {
      backend: spec.backend,
      cpus: spec.cpus,
      memoryMiB: spec.memoryMiB,
      diskSizeMiB: spec.diskSizeMiB,
      readOnly: spec.readOnly,
      tmpfs: spec.tmpfs,
      hostname: spec.hostname,
      cwd: spec.defaults.cwd,
      user: spec.defaults.user,
      tty: spec.workload?.tty !== undefined,
      stopSignal: spec.stopSignal,
      stopTimeoutMs: spec.stopTimeoutMs,
      timeoutMs: spec.timeoutMs,
    },
  };
}
