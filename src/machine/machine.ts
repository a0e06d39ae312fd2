// SPDX-License-Identifier: Apache-2.0
import type { Channel, Exec, ExecSpec, MachineEnd } from "../agent/index.ts";
import { MicrovmError, messageOf } from "../errors.ts";
import type { Backend, Vmm, VmmExit } from "../hypervisor/index.ts";
import type { NetworkProvider } from "../net/index.ts";
import type { VmRegistry } from "../state/index.ts";
import type { ApiServer } from "./api.ts";
import { bootGuest, spawnVmm, writableDiskOf } from "./boot.ts";
import { ConsoleLog } from "./console.ts";
import { createWritableDisk } from "./disk.ts";
import { joinWorkload } from "./join.ts";
import { Output, type OutputSink } from "./output.ts";
import { OutputLog } from "./output-log.ts";
import { recordOf } from "./record.ts";
import { removeFiles } from "./remove.ts";
import type { MachineSpec } from "./spec.ts";
import { Timeline } from "./timeline.ts";
import { mergeEnv } from "./workload.ts";

const SIGKILL = 9;
/** Signals that end a start that is under way: HUP, INT, QUIT, KILL, TERM. */
const FATAL = new Set([1, 2, 3, SIGKILL, 15]);
const TIMED_OUT = 124;
/** What the guest gets to write its caches to disk and power off. */
const SHUTDOWN_MS = 10_000;
/** What a guest gets to tell the end of a process that was killed, before its VMM is. */
const KILL_MS = 2_000;

/** Where a machine comes to life: what cannot be written into a spec. */
export interface MachineContext {
  readonly backend: Backend;
  readonly registry: VmRegistry;
  readonly network?: NetworkProvider | undefined;
  /** Gets the workload's output from its first byte on. */
  readonly sink?: OutputSink | undefined;
  /** Aborts the start, and nothing after it. */
  readonly signal?: AbortSignal | undefined;
  readonly timeline?: Timeline | undefined;
}

/**
 * The owner of one VM: its VMM, channel, network, logs and api.sock, from the start to the end. It lives in the
 * process that called `run`, or in the monitor of a detached VM.
 */
export class Machine {
  readonly spec: MachineSpec;
  /** Settles, and never rejects, when nothing of the VM runs any more and its end is recorded. */
  readonly finished: Promise<MachineEnd>;
  /** The same, once its clients have been told too and api.sock is gone. */
  readonly ended: Promise<MachineEnd>;
  readonly #registry: VmRegistry;
  readonly #network: NetworkProvider | undefined;
  readonly #finish = Promise.withResolvers<MachineEnd>();
  readonly #end = Promise.withResolvers<MachineEnd>();
  readonly #timeline: Timeline;
  #api: ApiServer | undefined;
  #log: OutputLog | undefined;
  #output: Output | undefined;
  #vmm: Vmm | undefined;
  #console: ConsoleLog | undefined;
  #channel: Channel | undefined;
  #workload: Exec | undefined;
  #stopped: Promise<void> | undefined;
  /** Aborted by whoever stops the machine before it is up. */
  readonly #starting = new AbortController();
  #started = false;
  #recorded = false;
  #timedOut = false;
  #killed: MachineEnd | undefined;
  #failure: string | undefined;

  private constructor(spec: MachineSpec, context: MachineContext) {
    this.spec = spec;
    this.#registry = context.registry;
    this.#network = context.network;
    this.#timeline = context.timeline ?? new Timeline(performance.now());
    this.finished = this.#finish.promise;
    this.ended = this.#end.promise;
  }

  /**
   * Boots the machine and starts its workload. What fails leaves nothing behind but a record, if the machine is one
   * that is kept.
   *
   * @throws MicrovmError of stage `spawn`, `network`, `boot` or `workload`.
   */
  static async start(spec: MachineSpec, context: MachineContext): Promise<Machine> {
    const machine = new Machine(spec, context);
    try {
      await machine.#start(context);
    } catch (error) {
      await machine.#close({ code: 125, error: messageOf(error) });
      throw error;
    }
    machine.#supervise();
    return machine;
  }

  /** The running workload; undefined if the machine was started without one. */
  get workload(): Exec | undefined {
    return this.#workload;
  }

  /** Starts another process inside. What `spec` leaves empty, image and options fill in; `env` is put on top of theirs. */
  exec(spec: ExecSpec, signal?: AbortSignal): Exec {
    if (!this.#channel || !this.#started || this.#stopped) throw notRunning(this.spec.name);
    return this.#channel.exec(
      {
        ...spec,
        env: mergeEnv(this.spec.defaults.env, toRecord(spec.env ?? [])),
        cwd: spec.cwd || this.spec.defaults.cwd,
        user: spec.user || this.spec.defaults.user,
      },
      { signal },
    );
  }

  /** Joins the workload: own streams on it, whose end ends nothing. */
  join(options: { readonly stdin: boolean }): Exec {
    const [workload, output] = [this.#workload, this.#output];
    if (!workload || !output || this.#stopped) throw notRunning(this.spec.name);
    return joinWorkload(workload, (sink) => output.attach(sink), options);
  }

  /** Signals the workload. SIGKILL ends the machine, even one whose guest no longer answers. */
  kill(signal: number): void {
    if (!this.#started) {
      if (FATAL.has(signal)) this.#cancel();
      return;
    }
    if (!this.#workload && signal !== SIGKILL) throw noWorkload(this.spec.name);
    this.#workload?.kill(signal);
    if (signal !== SIGKILL) return;
    if (this.#workload) {
      const patience = setTimeout(() => this.#power(), KILL_MS);
      void this.finished.then(() => clearTimeout(patience));
    } else this.#power();
  }

  /** Stops the workload (its stop signal, then SIGKILL), the guest, the VMM. Settles when all has ended. */
  async stop(timeoutMs: number = this.spec.stopTimeoutMs): Promise<void> {
    if (!this.#started) {
      this.#cancel();
      await this.finished;
    } else if (this.#workload) {
      this.#workload.kill(this.spec.stopSignal);
      const patience = setTimeout(() => this.kill(SIGKILL), timeoutMs);
      await this.finished;
      clearTimeout(patience);
    } else {
      await this.#shutdown({ code: 0 });
    }
  }

  /** What there is to say about it, as plain data. */
  inspect(): Record<string, unknown> {
    return {
      acceleration: this.#vmm?.acceleration,
      vmm: this.#vmm?.identity,
      stages: this.#timeline.stages,
      console: this.#console?.tail(),
    };
  }

  async #start({ backend, sink, signal: outer }: MachineContext): Promise<void> {
    const { spec } = this;
    const timeline = this.#timeline;
    const signal = outer ? AbortSignal.any([outer, this.#starting.signal]) : this.#starting.signal;
    const [network, disk] = await timeline.measure("prepare", () =>
      settled([
        this.#network?.start(signal),
        spec.diskSizeMiB > 0
          ? createWritableDisk(writableDiskOf(spec), spec.diskSizeMiB * 2 ** 20)
          : undefined,
      ]),
    );
    const parts = { network, disk };
    const vmm = await timeline.measure("spawn", () => spawnVmm(spec, backend, parts, signal));
    this.#vmm = vmm;
    const console = new ConsoleLog(spec.dir, vmm.console);
    this.#console = console;
    if (vmm.nic) network?.connect(vmm.nic);
    // All that the guest does not wait for is done while its kernel boots.
    const start = (channel: Channel, giveUp: AbortSignal) => this.#startWorkload(channel, giveUp);
    const [, channel] = await settled([
      this.#open(sink),
      bootGuest(spec, { vmm, console }, parts, timeline, signal, start),
    ]);
    this.#channel = channel;
    signal.throwIfAborted();
    this.#started = true;
    const { console: _, ...facts } = this.inspect();
    this.#registry.started(spec.id, Date.now(), { ...recordOf(spec).details, ...facts });
  }

  /** Makes the machine known: from here on other processes see it, and can stop it. */
  async #open(sink: OutputSink | undefined): Promise<void> {
    try {
      const { serveApi } = await import("./api.ts");
      this.#log = await OutputLog.create(this.spec.dir);
      this.#output = new Output(this.#log);
      if (sink) this.#output.attach(sink);
      this.#api = await serveApi(this);
      this.#registry.insert(recordOf(this.spec));
      this.#recorded = true;
    } catch (error) {
      this.#vmm?.kill();
      throw error;
    }
  }

  async #startWorkload(channel: Channel, signal: AbortSignal): Promise<void> {
    const process = this.spec.workload;
    if (!process) return;
    const spec: ExecSpec = {
      args: [...process.args],
      env: [...process.env],
      cwd: process.cwd,
      user: process.user,
      ...(process.tty && { tty: process.tty }),
      stdin: process.stdin,
      stdout: true,
      stderr: !process.tty,
      workload: true,
      createCwd: true,
    };
    this.#workload = channel.exec(spec, { signal });
    await this.#workload.pid;
  }

  /** From a started machine to its end: whichever comes first of workload, VMM, time. */
  #supervise(): void {
    void this.#vmm?.exited.then((exit) =>
      this.#shutdown(this.#killed ?? { code: 125, error: this.#lost(exit) }),
    );
    // Without its channel a VM is of no use. Why it was lost, the end of the VMM tells best.
    void this.#channel?.closed.then((reason) => this.#fail(reason.message));
    const workload = this.#workload;
    if (!workload) return;
    const limit = this.spec.timeoutMs;
    const timer =
      limit === undefined
        ? undefined
        : setTimeout(() => {
            this.#timedOut = true;
            this.kill(SIGKILL);
          }, limit);
    const output = Promise.all([
      workload.stdout && this.#output?.pump("stdout", workload.stdout),
      workload.stderr && this.#output?.pump("stderr", workload.stderr),
    ]);
    void Promise.all([workload.exit, output])
      .then(([{ code, signal }]) =>
        this.#shutdown({ code: this.#timedOut ? TIMED_OUT : signal > 0 ? 128 + signal : code }),
      )
      .catch((error) => this.#fail(messageOf(error)))
      .finally(() => clearTimeout(timer));
  }

  #cancel(): void {
    this.#starting.abort(
      new MicrovmError("ABORTED", `${this.spec.name} was stopped while it started`, { stage: "boot" }),
    );
  }

  #fail(message: string): void {
    this.#failure ??= message;
    this.#vmm?.kill();
  }

  #lost(exit: VmmExit): string {
    const said = exit.stderr.trim().split("\n").at(-1);
    if (exit.reason === "guest-panic" || exit.reason === "guest-reset" || exit.reason === "guest-shutdown") {
      const console = this.#console?.tail().split("\n").at(-1);
      return `the VM ended by itself (${exit.reason})${console ? `: ${console.slice(0, 300)}` : ""}`;
    }
    return `the VM was lost: ${said || this.#failure || exit.signal || `VMM exit code ${exit.code}`}`.slice(
      0,
      400,
    );
  }

  /** Cuts the power. */
  #power(): void {
    this.#killed ??= { code: this.#timedOut ? TIMED_OUT : 128 + SIGKILL };
    this.#vmm?.kill();
  }

  /** The first call decides how the machine ended; all of them wait for the same end. */
  #shutdown(end: MachineEnd): Promise<void> {
    this.#stopped ??= this.#powerOff(end).then(() => this.#close(end));
    return this.#stopped;
  }

  async #powerOff(end: MachineEnd): Promise<void> {
    const vmm = this.#vmm;
    if (!vmm) return;
    // What is thrown away need not be written to disk first.
    if (!this.spec.autoRemove && !this.#killed && end.error === undefined) {
      await this.#channel?.shutdown(0, { signal: AbortSignal.timeout(SHUTDOWN_MS) }).catch(() => {}); // then by force
    }
    vmm.kill();
    await vmm.exited;
    await this.#console?.ended;
  }

  /** Lets go of everything, in the order in which nobody is told of an end that has not happened yet. */
  async #close(end: MachineEnd): Promise<void> {
    this.#stopped ??= this.finished.then(() => {});
    this.#channel?.close();
    this.#vmm?.kill();
    await this.#vmm?.exited;
    // What cannot be tidied up changes nothing about how the machine ended, and must not keep the rest from it.
    let trouble: string | undefined;
    const tidy = async (step: () => unknown): Promise<void> => {
      try {
        await step();
      } catch (error) {
        trouble ??= `tidying up: ${messageOf(error)}`;
      }
    };
    await tidy(() => this.#network?.stop());
    await tidy(() => this.#log?.close());
    if (this.spec.autoRemove || !this.#recorded) {
      await tidy(() => removeFiles(this.spec));
      await tidy(() => this.#registry.delete(this.spec.id));
    } else {
      const exitCode = end.error === undefined ? end.code : undefined;
      const error = end.error ?? trouble;
      await tidy(() => this.#registry.finished(this.spec.id, { at: Date.now(), exitCode, error }));
    }
    this.#finish.resolve(end);
    await tidy(() => this.#api?.close());
    this.#end.resolve(end);
    if (trouble !== undefined) process.emitWarning(`${this.spec.name}: ${trouble}`, "MicrovmWarning");
  }
}

const toRecord = (env: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    env.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );

/** As Promise.all, but when one fails it still waits for the others: nobody is left working on what is being torn down. */
async function settled<T extends readonly unknown[]>(
  promises: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function noWorkload(name: string): MicrovmError {
  return new MicrovmError("VM_NOT_RUNNING", `${name} has no workload to signal`, {
    stage: "exec",
    hint: "SIGKILL, or stop, ends the VM.",
  });
}

function notRunning(name: string): MicrovmError {
  return new MicrovmError("VM_NOT_RUNNING", `${name} is not running`, { stage: "exec" });
}
