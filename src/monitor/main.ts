// SPDX-License-Identifier: Apache-2.0
//
// The monitor of one detached VM: owns its machine and ends with it. Started by `startMonitor`, never by hand.
import { Socket } from "node:net";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import { toMicrovmError } from "../errors.ts";
import { selectBackend } from "../hypervisor/index.ts";
import { claim, Machine, Timeline } from "../machine/index.ts";
import { VmRegistry } from "../state/index.ts";
import { errorText, type MonitorOrder, type MonitorReport } from "./protocol.ts";

const CALLER_FD = 3;

// It lives as long as its VM, and has little to do: see cli/main.ts.
setFlagsFromString("--semi-space-growth-factor=1");

const caller = new Socket({ fd: CALLER_FD, readable: true, writable: true });
const report = (message: MonitorReport) => caller.writable && caller.write(`${JSON.stringify(message)}\n`);
// A terminal's signals are for the caller; `microvm stop` ends this process by ending its machine.
for (const signal of ["SIGINT", "SIGHUP", "SIGQUIT", "SIGPIPE"] as const) process.on(signal, () => {});

const lines = createInterface({ input: caller })[Symbol.asyncIterator]();
const { value: line } = await lines.next();
const order = JSON.parse(String(line)) as MonitorOrder;

const cancelled = new AbortController();
caller.once("close", () => cancelled.abort());
caller.on("error", () => cancelled.abort());

const registry = new VmRegistry(order.dirs.data);
try {
  const { backend } = await selectBackend(order.spec.backend, { cacheDir: order.dirs.cache });
  claim(order.spec.dir); // from the caller, who made it
  const machine = await Machine.start(order.spec, {
    backend,
    registry,
    signal: cancelled.signal,
    timeline: new Timeline(performance.now(), (stage) => report({ type: "stage", stage })),
  });
  process.on("SIGTERM", () => void machine.stop());
  report({ type: "started" });
  caller.end();
  const end = await machine.ended;
  if (end.error !== undefined) process.stderr.write(`${end.error}\n`);
} catch (error) {
  const known = toMicrovmError(error, "spawn", cancelled.signal);
  process.stderr.write(`${known.message}\n`);
  report({ type: "failed", error: errorText(known) });
  process.exitCode = 1;
  caller.end();
} finally {
  registry[Symbol.dispose]();
}
