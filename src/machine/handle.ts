// SPDX-License-Identifier: Apache-2.0
import type { Exec, ExecSpec, MachineClient, MachineEnd } from "../agent/index.ts";
import { MicrovmError } from "../errors.ts";
import type { VmRecord, VmRegistry } from "../state/index.ts";
import type { Machine } from "./machine.ts";
import { isOwned } from "./owner.ts";

/** How long a machine that is asked about itself may take. */
const ANSWER_MS = 2_000;

/** What a VM object needs of its machine, wherever that lives. */
export interface MachineHandle {
  /** Whether the machine lives, as far as has been heard. */
  readonly running: boolean;
  /** @throws MicrovmError `VM_NOT_RUNNING`. */
  exec(spec: ExecSpec, signal?: AbortSignal): Exec;
  /** Joins the workload. @throws MicrovmError `VM_NOT_RUNNING`. */
  attach(options: { stdin: boolean }): Exec;
  wait(signal?: AbortSignal): Promise<MachineEnd>;
  /** Nothing to do if it is not running. */
  stop(timeoutMs: number | undefined): Promise<void>;
  /** @throws MicrovmError `VM_NOT_RUNNING`. */
  kill(signal: number): Promise<void>;
  inspect(): Promise<Record<string, unknown>>;
  /** Lets go of the handle; the machine goes on. */
  close(): void;
}

/** A machine of this process. */
export function localHandle(machine: Machine): MachineHandle {
  let running = true;
  void machine.ended.then(() => {
    running = false;
  });
  return {
    get running() {
      return running;
    },
    exec: (spec, signal) => machine.exec(spec, signal),
    attach: (options) => machine.join(options),
    wait: (signal) => orAborted(machine.ended, signal),
    stop: async (timeoutMs) => {
      if (running) await machine.stop(timeoutMs);
      await machine.ended;
    },
    kill: async (signal) => {
      if (!running) throw notRunning(machine.spec.name);
      machine.kill(signal);
    },
    inspect: async () => machine.inspect(),
    close() {},
  };
}

/** The machine of a record, wherever it lives: whoever answers on its api.sock, or nobody any more. */
export async function openHandle(
  record: VmRecord,
  registry: VmRegistry,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<MachineHandle> {
  const { connectMachine } = await import("../agent/index.ts");
  let client: MachineClient | undefined;
  try {
    client = await connectMachine(record.socketPath, options);
  } catch (error) {
    // Nobody there, or somebody who does not answer: which of the two, the record's owner tells.
    if (!(error instanceof MicrovmError) || !["VM_NOT_RUNNING", "TIMEOUT"].includes(error.code)) throw error;
  }
  void client?.closed.then(() => {
    client = undefined;
  });
  const live = (): MachineClient => {
    if (!client) throw notRunning(record.name);
    return client;
  };
  return {
    get running() {
      return client !== undefined;
    },
    exec: (spec, signal) => live().exec(spec, { signal }),
    attach: ({ stdin }) => live().attach({ stdin }),
    wait: async (signal) => {
      if (!client) return recordedEnd(registry, record, "not running");
      try {
        return await client.wait({ signal });
      } catch (error) {
        signal?.throwIfAborted();
        return recordedEnd(registry, record, error);
      }
    },
    stop: async (timeoutMs) => {
      await client?.stop(timeoutMs ?? Number(record.details["stopTimeoutMs"]));
    },
    kill: async (signal) => live().kill(signal),
    inspect: async () => {
      const text = await live().inspect({ signal: AbortSignal.timeout(ANSWER_MS) });
      return JSON.parse(text) as Record<string, unknown>;
    },
    close: () => client?.close(),
  };
}

/** The end of a machine that no longer answers, as it was recorded. */
function recordedEnd(registry: VmRegistry, record: VmRecord, cause: unknown): MachineEnd {
  const current = registry.list().find(({ id }) => id === record.id);
  if (!current) return { code: 125, error: "it has ended and was removed, its exit code with it" };
  const { finishedAt, exitCode, error } = current;
  if (finishedAt === undefined) {
    if (isOwned(record.dir)) return { code: 125, error: "its owner runs, but does not answer" };
    return { code: 125, error: "the process that owned the VM was killed; its end was not recorded" };
  }
  return exitCode === undefined ? { code: 125, error: error ?? String(cause) } : { code: exitCode };
}

function orAborted<T>(waited: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return waited;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  return Promise.race([waited, aborted.promise]).finally(() => signal.removeEventListener("abort", abort));
}

function notRunning(name: string): MicrovmError {
  return new MicrovmError("VM_NOT_RUNNING", `${name} is not running`, {
    stage: "exec",
    hint: "microvm ps -a shows how it ended.",
  });
}
