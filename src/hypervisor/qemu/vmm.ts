// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex, Readable } from "node:stream";
import { MicrovmError, toMicrovmError } from "../../errors.ts";
import { identify, type ProcessIdentity } from "../../internal/process.ts";
import type { Acceleration, Vmm, VmmConfig, VmmExit, VmmExitReason } from "../backend.ts";
import { mortalCommand, vmmEnvironment } from "../mortal-command.ts";
import { FD, type QemuTarget, qemuArguments } from "./command-line.ts";
import { QmpClient, type QmpEvent } from "./qmp.ts";

const STDERR_TAIL_BYTES = 8 << 10;

/**
 * Starts QEMU and waits until it says that the guest is running.
 *
 * @throws MicrovmError `VMM_FAILED` with what QEMU wrote on stderr, `ABORTED`, `MISSING_DEPENDENCY`.
 */
export async function startQemu(
  binary: string,
  config: VmmConfig,
  target: QemuTarget,
  signal?: AbortSignal,
): Promise<Vmm> {
  signal?.throwIfAborted();
  const command = mortalCommand({ file: binary, args: qemuArguments(config, target) });
  const child = spawn(command.file, command.args, {
    // agent, console, QMP, link: Node makes each a socketpair, so nothing has a name that others could connect to.
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", "pipe", config.nic ? "pipe" : "ignore"],
    env: vmmEnvironment(),
    cwd: "/",
    // A session of its own: Ctrl-C at the terminal is for the caller, not for the VMM.
    detached: true,
  });
  const vmm = new QemuVmm(child, target.acceleration, config.nic !== undefined);
  const onAbort = (): void => vmm.kill();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await vmm.running();
    signal?.throwIfAborted();
    return vmm;
  } catch (error) {
    vmm.kill();
    const exit = await vmm.exited;
    if (signal?.aborted) throw toMicrovmError(signal.reason, "spawn", signal);
    throw startFailure(binary, exit, error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

class QemuVmm implements Vmm {
  readonly acceleration: Acceleration;
  readonly agent: Duplex;
  readonly console: Readable;
  readonly nic: Duplex | undefined;
  readonly exited: Promise<VmmExit>;
  readonly #child: ChildProcess;
  readonly #qmp: QmpClient;
  #identity: ProcessIdentity | undefined;
  #reason: VmmExitReason | undefined;

  constructor(child: ChildProcess, acceleration: Acceleration, hasNic: boolean) {
    this.#child = child;
    this.acceleration = acceleration;
    this.agent = socketOf(child, FD.agent);
    this.console = socketOf(child, FD.console);
    this.nic = hasNic ? socketOf(child, FD.nic) : undefined;
    this.#identity = child.pid === undefined ? undefined : identify(child.pid);
    this.#qmp = new QmpClient(socketOf(child, FD.qmp), (event) => this.#onEvent(event));
    this.exited = this.#exit();
  }

  get identity(): ProcessIdentity {
    return this.#identity ?? { pid: -1, startTime: "" };
  }

  /** QEMU answers only from its main loop, which it enters with the machine built and the guest started. */
  async running(): Promise<void> {
    await this.#qmp.execute("qmp_capabilities");
  }

  async quit(): Promise<void> {
    try {
      await this.#qmp.execute("quit");
    } catch {
      this.kill(); // it does not listen any more
    }
    await this.exited;
  }

  kill(): void {
    // ChildProcess knows whether it has reaped the process, so this never reaches another with the same pid.
    this.#child.kill("SIGKILL");
  }

  #onEvent(event: QmpEvent): void {
    if (event.name === "GUEST_PANICKED") this.#reason = "guest-panic";
    if (event.name === "SHUTDOWN") this.#reason ??= shutdownReason(event.data.reason);
  }

  async #exit(): Promise<VmmExit> {
    const exit = Promise.withResolvers<Pick<VmmExit, "code" | "signal">>();
    const failure = Promise.withResolvers<string>();
    this.#child.once("exit", (code, signal) => exit.resolve({ code, signal }));
    this.#child.once("error", (error) => {
      // Not started at all: there will be no exit.
      if (this.#child.pid === undefined) exit.resolve({ code: null, signal: null });
      failure.resolve(error.message);
    });
    const stderr = tailOf(this.#child.stderr, STDERR_TAIL_BYTES);
    const status = await exit.promise;
    await this.#qmp.closed;
    const text = this.#child.pid === undefined ? await failure.promise : await stderr;
    return { ...status, ...(this.#reason && { reason: this.#reason }), stderr: text };
  }
}

/** Source: QEMU, qapi/run-state.json, ShutdownCause. */
function shutdownReason(cause: unknown): VmmExitReason | undefined {
  switch (cause) {
    case "guest-shutdown":
      return "guest-shutdown";
    case "guest-reset":
    case "subsystem-reset":
      return "guest-reset";
    case "guest-panic":
      return "guest-panic";
    case "host-qmp-quit":
    case "host-signal":
    case "host-ui":
      return "host-quit";
    default:
      return undefined;
  }
}

function socketOf(child: ChildProcess, fd: number): Duplex {
  const socket = child.stdio[fd] as Duplex;
  // A VMM that is gone is reported by `exited`; without a listener the broken pipe would end this process.
  socket.on("error", () => undefined);
  return socket;
}

async function tailOf(stream: Readable | null, maxBytes: number): Promise<string> {
  let tail: Buffer = Buffer.alloc(0);
  if (!stream) return "";
  await new Promise<void>((resolve) => {
    stream.on("data", (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]);
      if (tail.length > maxBytes) tail = tail.subarray(tail.length - maxBytes);
    });
    stream.once("close", resolve);
  });
  return tail.toString("utf8");
}

function startFailure(binary: string, exit: VmmExit, cause: unknown): MicrovmError {
  const how = exit.signal ? `killed by ${exit.signal}` : `exit code ${exit.code}`;
  const said = exit.stderr.trim().split("\n").at(-1) ?? "";
  return new MicrovmError("VMM_FAILED", `start ${binary}: ${said || how}`, {
    stage: "spawn",
    cause,
    hint: "The VMM ended before the guest ran; its own words are in the evidence.",
    evidence: { exit: how, stderr: exit.stderr },
  });
}
