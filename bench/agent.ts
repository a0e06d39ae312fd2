// SPDX-License-Identifier: Apache-2.0
//
// The guest channel without a VM: the agent as a process of this host, on a socket pair. What a process started
// through it costs, idle and beside bulk data, and how fast one stream is each way; against a bare socket pair.
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { type Channel, connectAgent } from "../src/agent/index.ts";
import { buildGoPeer, noGoPeer, spawnPeer } from "../src/agent/testing/go-peer.ts";
import { YamuxSession } from "../src/agent/yamux/index.ts";
import type { Report } from "./report.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const AGENT = `${ROOT}build/guest/linux-${process.arch === "x64" ? "amd64" : process.arch}/agent`;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BULK = Number(process.env.BULK_GIB ?? 2) * GIB;
const EXECS = Number(process.env.EXECS ?? 400);
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const CHUNK = Buffer.alloc(256 * 1024);
const ENV = ["PATH=/usr/bin:/bin"];

export async function run(report: Report): Promise<void> {
  const child = spawn(AGENT, ["--native", "3"], { stdio: ["ignore", "inherit", "inherit", "pipe"] });
  const channel = await connectAgent(child.stdio[3] as Socket);
  try {
    await roundTrips(report, channel);
    await throughput(report, channel);
  } finally {
    channel.close();
    await once(child, "exit");
  }
  await yamuxAlone(report);
}

/** From `exec()` to its exit status, of a process that does nothing; against the same started by node itself. */
async function roundTrips(report: Report, channel: Channel): Promise<void> {
  const spawned = async () => {
    await once(spawn("/bin/true", [], { stdio: "ignore" }), "exit");
  };
  const exec = async () => {
    await channel.exec({ args: ["/bin/true"], env: ENV }).exit;
  };
  await measure(20, exec);
  report.step(`${EXECS} processes, idle`);
  latencies(report, "idle", await measure(EXECS, spawned), await measure(EXECS, exec), { p50: 1 });

  report.step(`${EXECS} processes while 1 GiB and more is copied on another stream`);
  const stop = new AbortController();
  const copied = copyUntil(channel, stop.signal);
  const floor = await measure(EXECS, spawned);
  const times = await measure(EXECS, exec);
  stop.abort();
  latencies(report, "under load", floor, times, { p99: 5 });
  report.figure({ name: "copied meanwhile", value: (await copied) / GIB, unit: "GiB" });
}

function latencies(
  report: Report,
  name: string,
  floor: readonly number[],
  times: readonly number[],
  limits: { readonly p50?: number; readonly p99?: number },
): void {
  for (const [label, quantile] of [
    ["p50", 0.5],
    ["p99", 0.99],
  ] as const) {
    const value = at(times, quantile);
    const limit = limits[label];
    report.figure({
      name: `exec, ${name}, ${label}`,
      value,
      unit: "ms",
      against: "spawn by node",
      ratio: value / at(floor, quantile),
      ...(limit !== undefined && { target: `≤ ${limit} ms`, ok: value <= limit }),
    });
  }
}

/** Copies from the guest until told to stop, at least 1 GiB; the number of bytes. */
async function copyUntil(channel: Channel, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  while (!signal.aborted || bytes < GIB) {
    const args = ["dd", "if=/dev/zero", "bs=1M", `count=${GIB / MIB}`, "status=none"];
    const exec = channel.exec({ args, env: ENV, stdout: true });
    exec.stdout?.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (signal.aborted && bytes >= GIB) void exec[Symbol.asyncDispose]();
    });
    await exec.exit.catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }
  return bytes;
}

async function throughput(report: Report, channel: Channel): Promise<void> {
  const ways = {
    "guest to host": {
      args: ["dd", "if=/dev/zero", "bs=1M", `count=${BULK / MIB}`, "status=none"],
      async floor(args: string[]) {
        const child = spawn(args[0] ?? "", args.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
        return receive(child.stdout);
      },
      async channel(args: string[]) {
        const exec = channel.exec({ args, env: ENV, stdout: true });
        await receive(exec.stdout);
        await exec.exit;
      },
    },
    "host to guest": {
      args: ["sh", "-c", "exec cat >/dev/null"],
      async floor(args: string[]) {
        const child = spawn(args[0] ?? "", args.slice(1), { stdio: ["pipe", "ignore", "inherit"] });
        const exited = once(child, "exit");
        await send(child.stdin);
        await exited;
      },
      async channel(args: string[]) {
        const exec = channel.exec({ args, env: ENV, stdin: true });
        await send(exec.stdin);
        await exec.exit;
      },
    },
  };
  for (const [name, way] of Object.entries(ways)) {
    report.step(`${BULK / GIB} GiB ${name}`);
    const floor = rate(await measure(ROUNDS, () => way.floor(way.args)));
    const before = process.cpuUsage();
    const value = rate(await measure(ROUNDS, () => way.channel(way.args)));
    report.figure({ name: `bare socket pair, ${name}`, value: floor, unit: "GiB/s" });
    report.figure({
      name: `channel, ${name}`,
      value,
      unit: "GiB/s",
      against: "bare socket pair",
      ratio: value / floor,
      target: "≥ 1 GiB/s",
      ok: value >= 1,
    });
    reportCpu(report, `channel, ${name}`, before);
  }
}

/** The session without processes and pipes: hashicorp/yamux at the other end sends zeros, or drops what comes. */
async function yamuxAlone(report: Report): Promise<void> {
  const missing = noGoPeer();
  if (missing) {
    report.step(`yamux alone: skipped, ${missing}`);
    return;
  }
  using peer = spawnPeer(buildGoPeer(), ["server", "3"]);
  const session = new YamuxSession(peer.socket, { role: "client" });
  report.step("yamux alone");
  const ways = {
    "guest to host": async () => {
      const stream = session.open();
      stream.write("z");
      let bytes = 0;
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes >= BULK) stream.destroy();
      });
      await once(stream, "close");
    },
    "host to guest": async () => {
      const stream = session.open();
      stream.write("d");
      stream.resume();
      await Promise.all([send(stream), once(stream, "end")]);
    },
  };
  for (const [name, copy] of Object.entries(ways)) {
    const before = process.cpuUsage();
    report.figure({ name: `yamux alone, ${name}`, value: rate(await measure(ROUNDS, copy)), unit: "GiB/s" });
    reportCpu(report, `yamux alone, ${name}`, before);
  }
  session.close();
}

/** GiB/s, of the median round. */
function rate(times: readonly number[]): number {
  return (BULK / GIB / at(times, 0.5)) * 1000;
}

/** What this process burned since `before`, over all rounds: the figure that others on the machine change least. */
function reportCpu(report: Report, name: string, before: NodeJS.CpuUsage): void {
  const { user, system } = process.cpuUsage(before);
  const value = (user + system) / 1000 / ((ROUNDS * BULK) / GIB);
  report.figure({ name: `CPU of the host's side, ${name}`, value, unit: "ms/GiB" });
}

async function send(stream: Writable | null | undefined): Promise<void> {
  if (!stream) throw new Error("no stdin");
  for (let sent = 0; sent < BULK; sent += CHUNK.length) {
    if (!stream.write(CHUNK)) await once(stream, "drain");
  }
  stream.end();
}

async function receive(stream: Readable | null | undefined): Promise<void> {
  if (!stream) throw new Error("no stdout");
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(stream, "end");
  if (bytes !== BULK) throw new Error(`${bytes} of ${BULK} bytes came`);
}

/** Milliseconds of each of some rounds, ascending. */
async function measure(rounds: number, action: () => Promise<void>): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begin = performance.now();
    await action();
    times.push(performance.now() - begin);
  }
  return times.sort((a, b) => a - b);
}

function at(sorted: readonly number[], quantile: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))] ?? Number.NaN;
}
