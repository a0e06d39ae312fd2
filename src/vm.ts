// SPDX-License-Identifier: Apache-2.0
import type { Readable, Writable } from "node:stream";
import { MicrovmError, toMicrovmError } from "./errors.ts";
import { type ExecOptions, ExecProcess, execOptionsSchema, execSpecOf } from "./exec.ts";
import { type ProcessIdentity, signalProcess } from "./internal/process.ts";
import { MAX_TIMER_MS } from "./internal/schema.ts";
import { signalNumber } from "./internal/signals.ts";
import type { MachineHandle } from "./machine/index.ts";
import { isOwned, type OutputRecord, readOutputLog, removeFiles } from "./machine/index.ts";
import type { VmRecord, VmRegistry } from "./state/index.ts";

/**
 * `running`: its machine answers. `exited`: it ended and said how. `unreachable`: its owner runs but does not answer.
 * `lost`: its owner was killed before it could say how it ended.
 */
export type VmState = "running" | "exited" | "unreachable" | "lost";

/** All there is to know about a VM. */
export interface VmInfo extends VmRecord {
  readonly state: VmState;
  /** What the running machine says of itself: acceleration, boot stages, console tail. */
  readonly live: Readonly<Record<string, unknown>> | undefined;
}

/** The workload's streams, with `stdio: "pipe"`. */
export interface WorkloadStreams {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: { rows: number; columns: number }): void;
}

/** A virtual machine. */
export class VM implements AsyncDisposable {
  readonly id: string;
  readonly name: string;
  /** As it was asked for. */
  readonly image: string;
  /** The workload's, with `stdin: true`. */
  readonly stdin: Writable | undefined;
  /** The workload's, with `stdio: "pipe"`; must then be read. */
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  readonly #record: VmRecord;
  readonly #registry: VmRegistry;
  readonly #machine: MachineHandle;
  readonly #streams: WorkloadStreams | undefined;
  readonly #owned: boolean;

  /** @internal */
  constructor(parts: {
    record: VmRecord;
    registry: VmRegistry;
    machine: MachineHandle;
    streams?: WorkloadStreams | undefined;
    /** Whether the end of this object is the end of the VM. */
    owned: boolean;
  }) {
    this.#record = parts.record;
    this.#registry = parts.registry;
    this.#machine = parts.machine;
    this.#streams = parts.streams;
    this.#owned = parts.owned;
    this.id = parts.record.id;
    this.name = parts.record.name;
    this.image = parts.record.imageReference;
    this.stdin = parts.streams?.stdin;
    this.stdout = parts.streams?.stdout;
    this.stderr = parts.streams?.stderr;
  }

  /**
   * Runs a command in the VM, with the workload's environment, directory and user unless the options say otherwise.
   *
   * @param file looked up in the guest's PATH; no shell is involved
   * @returns a promise of the result that is also a handle on the running process
   * @throws ExecError if it ends with another exit code than 0, unless `reject` is false.
   * @throws MicrovmError `INVALID_OPTION`, `COMMAND_NOT_FOUND`, `COMMAND_NOT_EXECUTABLE`, `EXEC_FAILED`, `TIMEOUT`,
   *   `VM_NOT_RUNNING`, `CHANNEL_CLOSED`, `ABORTED`.
   */
  exec(file: string, args: readonly string[] = [], options: ExecOptions = {}): ExecProcess {
    const parsed = execOptionsSchema.safeParse(options);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new MicrovmError("INVALID_OPTION", `exec: ${issue?.path.join(".")}: ${issue?.message}`, {
        stage: "options",
      });
    }
    const spec = execSpecOf(file, args, parsed.data);
    return new ExecProcess(file, this.#machine.exec(spec, parsed.data.signal), parsed.data);
  }

  /**
   * Waits for the end of the VM.
   *
   * @returns the workload's exit code; 128 + n if signal n ended it, 124 if `timeoutMs` did.
   * @throws MicrovmError `VMM_EXITED` if the VM itself was lost, `ABORTED`.
   */
  async wait(options: { signal?: AbortSignal } = {}): Promise<number> {
    try {
      const { code, error } = await this.#machine.wait(options.signal);
      if (error === undefined) return code;
      throw new MicrovmError("VMM_EXITED", `${this.name}: ${error}`, {
        stage: "workload",
        hint: "The console of the VM is in console.log in its directory: microvm inspect shows it.",
      });
    } catch (error) {
      throw toMicrovmError(error, "workload", options.signal);
    }
  }

  /**
   * Stops it: the stop signal to the workload, SIGKILL after the timeout; then the guest syncs and powers off. Does
   * nothing if it is not running.
   */
  async stop(options: { timeoutMs?: number } = {}): Promise<void> {
    const { timeoutMs = 0 } = options;
    if (!Number.isInteger(timeoutMs) || timeoutMs < 0 || timeoutMs > MAX_TIMER_MS) {
      throw new MicrovmError("INVALID_OPTION", `stop: timeoutMs: ${timeoutMs} is no time`, {
        stage: "options",
      });
    }
    await this.#machine.stop(options.timeoutMs);
  }

  /** Signals the workload. SIGKILL, the default, ends the VM. */
  async kill(signal: string | number = "SIGKILL"): Promise<void> {
    const number = signalNumber(signal);
    if (number === undefined) {
      throw new MicrovmError("INVALID_OPTION", `no such signal: ${signal}`, { stage: "options" });
    }
    await this.#machine.kill(number);
  }

  /**
   * Removes the VM with all it wrote.
   *
   * @param options.force stops it first
   * @throws MicrovmError `VM_RUNNING`.
   */
  async remove(options: { force?: boolean } = {}): Promise<void> {
    if (this.#machine.running) {
      if (!options.force) {
        throw new MicrovmError("VM_RUNNING", `${this.name} is running`, {
          stage: "state",
          hint: `Stop it first: microvm stop ${this.name}; or microvm rm -f ${this.name}`,
        });
      }
      const ended = this.#machine.wait();
      await this.#machine.kill(9).catch(() => {}); // it ended in between
      await ended;
    } else if (isOwned(this.#record.dir) && this.#registry.find(this.id).finishedAt === undefined) {
      if (!options.force) {
        throw new MicrovmError("VM_RUNNING", `${this.name} runs, but its owner does not answer`, {
          stage: "state",
          hint: `End it with force: microvm rm -f ${this.name}`,
        });
      }
      const vmm = this.#registry.find(this.id).details["vmm"];
      if (vmm) signalProcess(vmm as ProcessIdentity, "SIGKILL"); // its owner, if it can, tidies up by itself
    }
    await removeFiles(this.#record);
    this.#registry.delete(this.id);
  }

  /**
   * What the workload wrote, from the oldest piece that is still kept.
   *
   * @param options.follow goes on until the VM ends
   */
  async *logs(options: { follow?: boolean; signal?: AbortSignal } = {}): AsyncGenerator<OutputRecord> {
    if (!options.follow) return yield* readOutputLog(this.#record.dir);
    const end = new AbortController();
    const stop = () => end.abort();
    options.signal?.addEventListener("abort", stop, { once: true });
    if (options.signal?.aborted) stop();
    this.#machine.wait(end.signal).then(stop, stop);
    try {
      yield* readOutputLog(this.#record.dir, end.signal);
    } finally {
      stop();
      options.signal?.removeEventListener("abort", stop);
    }
  }

  /** Changes the size of the workload's terminal. */
  resize(size: { rows: number; columns: number }): void {
    this.#streams?.resize(size);
  }

  async inspect(): Promise<VmInfo> {
    const live = this.#machine.running ? await this.#machine.inspect().catch(() => undefined) : undefined;
    const record = this.#registry.find(this.id); // as it is by now
    const silent = (): VmState => (isOwned(record.dir) ? "unreachable" : "lost");
    const state = live ? "running" : record.finishedAt === undefined ? silent() : "exited";
    return { ...record, state, live };
  }

  /** Ends the VM if this process owns it, at once; else only lets go of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#owned && this.#machine.running) {
      await this.#machine.kill(9).catch(() => {}); // it ended in between
      await this.#machine.wait();
    }
    this.#machine.close();
  }
}
