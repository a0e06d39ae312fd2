// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a whole process tree cost. */
export interface Cost {
  readonly wallMs: number;
  /** User and system time of all its processes. */
  readonly cpuMs: number;
  /** Of the largest of its processes. */
  readonly peakRssMiB: number;
}

/** Runs a command under GNU time; throws what it says if it fails. */
export async function measure(
  command: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Cost> {
  const file = join(tmpdir(), `microvm-time-${process.pid}`);
  const child = spawn("/usr/bin/time", ["--format=%e %U %S %M", `--output=${file}`, ...command], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${said.slice(-2000)}`);
  const [wall = 0, user = 0, system = 0, rss = 0] = readFileSync(file, "utf8").trim().split(" ").map(Number);
  rmSync(file);
  return { wallMs: wall * 1000, cpuMs: (user + system) * 1000, peakRssMiB: rss / 1024 };
}

/** The best of each measure over several runs: what is left when the machine does nothing else. */
export function best(costs: readonly Cost[]): Cost {
  const least = (of: (cost: Cost) => number) => Math.min(...costs.map(of));
  return {
    wallMs: least(({ wallMs }) => wallMs),
    cpuMs: least(({ cpuMs }) => cpuMs),
    peakRssMiB: Math.max(...costs.map(({ peakRssMiB }) => peakRssMiB)),
  };
}
