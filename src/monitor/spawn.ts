// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { MicrovmError, toMicrovmError } from "../errors.ts";
import type { BootStage } from "../events.ts";
import { packageProgram } from "../internal/package.ts";
import { errorOf, type MonitorOrder, type MonitorReport } from "./protocol.ts";

const LOG_TAIL = 2048;
/** How long a monitor that has failed, or is no longer wanted, may take to end its VM. */
const GOODBYE_MS = 10_000;
/** All that the monitor and its VMM need of the caller's environment. */
const ENVIRONMENT = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "NODE_DEBUG"];

/**
 * Hands a machine to a process of its own, which outlives this one. Settles when the machine has started, or when it
 * has not and that process is gone.
 *
 * @throws MicrovmError what the start failed with, as if it had happened here.
 */
export async function startMonitor(
  order: MonitorOrder,
  options: { readonly signal?: AbortSignal | undefined; readonly onStage?: (stage: BootStage) => void },
): Promise<void> {
  options.signal?.throwIfAborted();
  const logPath = join(order.spec.dir, "monitor.log");
  const log = openSync(logPath, "w", 0o600);
  const main = packageProgram("monitor/main");
  const child = spawn(process.execPath, [main], {
    detached: true,
    stdio: ["ignore", log, log, "pipe"],
    cwd: "/",
    env: environment(),
  });
  closeSync(log);
  const socket = child.stdio[3] as Duplex;
  const failed = new Promise<never>((_, reject) => child.once("error", reject));
  const exited = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  socket.on("error", () => {}); // its end is the end of the lines below
  const closed = new Promise<never>((_, reject) =>
    socket.once("close", () => reject(new Error("the monitor closed its socket"))),
  );
  closed.catch(() => {}); // after the last word it says nothing new
  const cancel = () => socket.destroy();
  options.signal?.addEventListener("abort", cancel, { once: true });
  try {
    socket.write(`${JSON.stringify(order)}\n`);
    await Promise.race([failed, closed, follow(socket, options.onStage)]);
  } catch (error) {
    // What the monitor still tidies up, nobody else should touch: it is on its way out.
    socket.destroy();
    const patience = new AbortController();
    await Promise.race([exited, sleep(GOODBYE_MS, undefined, { signal: patience.signal })]);
    patience.abort();
    if (error instanceof MicrovmError) throw error;
    if (options.signal?.aborted) throw toMicrovmError(error, "spawn", options.signal);
    throw new MicrovmError("VMM_FAILED", "the monitor process ended before the VM was up", {
      stage: "spawn",
      hint: "The end of monitor.log is in the error's evidence.",
      evidence: { log: tailOf(logPath) },
      cause: error,
    });
  } finally {
    options.signal?.removeEventListener("abort", cancel);
    socket.destroy();
    child.unref();
  }
}

function tailOf(path: string): string {
  try {
    return readFileSync(path, "utf8").slice(-LOG_TAIL);
  } catch {
    return ""; // the monitor removed it with all else
  }
}

async function follow(socket: Duplex, onStage: ((stage: BootStage) => void) | undefined): Promise<void> {
  for await (const line of createInterface({ input: socket })) {
    const report = JSON.parse(line) as MonitorReport;
    if (report.type === "stage") onStage?.(report.stage);
    else if (report.type === "failed") throw errorOf(report.error);
    else return;
  }
  throw new Error("the monitor closed its socket");
}

function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => ENVIRONMENT.includes(name) || name.startsWith("MICROVM_") || name.startsWith("XDG_"),
  );
  return Object.fromEntries(kept);
}
