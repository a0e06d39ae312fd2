// SPDX-License-Identifier: Apache-2.0

/** A process to start in the guest. Everything is said: nothing is inherited from the host. */
export interface ProcessSpec {
  /** `args[0]` is looked up in the PATH of `env`. */
  readonly args: readonly string[];
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly cwd: string;
  /** `name|uid[:group|gid]`; "" is root. */
  readonly user: string;
  readonly tty: { readonly rows: number; readonly columns: number } | undefined;
  /** Whether something will be written to its standard input; else it reads /dev/null. */
  readonly stdin: boolean;
}

/** A file system in the guest's memory. */
export interface TmpfsSpec {
  readonly target: string;
  readonly options: readonly string[];
}

/**
 * Everything a machine is made of, resolved: no defaults, no lookups left. Plain data, so that it can be handed
 * to another process as JSON.
 */
export interface MachineSpec {
  readonly id: string;
  readonly name: string;
  /** Exists, private, holds disk and logs. */
  readonly dir: string;
  readonly socketPath: string;
  readonly image: { readonly reference: string; readonly id: string; readonly diskPath: string };
  readonly kernel: string;
  readonly initramfs: string;
  readonly backend: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Where writes go: a sparse disk of this size, or the guest's memory when it is 0. */
  readonly diskSizeMiB: number;
  readonly readOnly: boolean;
  readonly tmpfs: readonly TmpfsSpec[];
  readonly hostname: string;
  /** What execs get besides their own: the environment, directory and user of the image and the options. */
  readonly defaults: Pick<ProcessSpec, "env" | "cwd" | "user">;
  /** Absent: nothing is started, and the machine lives until it is stopped. */
  readonly workload: ProcessSpec | undefined;
  /** Linux number. */
  readonly stopSignal: number;
  readonly stopTimeoutMs: number;
  readonly bootTimeoutMs: number;
  /** How long the workload may run; absent: for ever. */
  readonly timeoutMs: number | undefined;
  readonly autoRemove: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: number;
}
