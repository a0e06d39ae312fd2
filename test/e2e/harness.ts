// SPDX-License-Identifier: Apache-2.0
//
// Real things for the end-to-end tests: the built command line, Debian's registry, images made with Debian's tools.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { DockerRegistry } from "../../src/image/testing/docker-registry.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CLI = join(ROOT, "dist/cli/main.js");
export const IMAGES = join(ROOT, "build/images");

/** A home of its own for one test file: no image, no VM of anybody else's. Gone afterwards. */
export function testHome(): { readonly dir: string; readonly env: NodeJS.ProcessEnv } {
  const dir = mkdtempSync(join(tmpdir(), "mv-"));
  const env = {
    ...process.env,
    MICROVM_CACHE_DIR: join(dir, "cache"),
    MICROVM_DATA_DIR: join(dir, "data"),
    MICROVM_RUNTIME_DIR: join(dir, "run"),
  };
  mkdirSync(env.MICROVM_CACHE_DIR, { mode: 0o700 });
  after(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }));
  return { dir, env };
}

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliProcess {
  readonly child: ChildProcess;
  readonly result: Promise<CliResult>;
}

/** Starts the built command line. */
export function startCli(
  env: NodeJS.ProcessEnv,
  args: readonly string[],
  input?: string | Buffer,
): CliProcess {
  const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin?.on("error", () => {});
  if (input !== undefined) child.stdin?.end(input);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  const result = once(child, "close").then(([code]) => ({
    code: code as number | null,
    stdout: Buffer.concat(stdout).toString("utf8"),
    stderr: Buffer.concat(stderr).toString("utf8"),
  }));
  return { child, result };
}

/** Runs the built command line to its end, with an empty standard input unless one is given. */
export function cli(
  env: NodeJS.ProcessEnv,
  args: readonly string[],
  input: string | Buffer = "",
): Promise<CliResult> {
  return startCli(env, args, input).result;
}

/** Debian's registry on a free loopback port, for the time of one test file: call it at the top of that. */
export async function startRegistry(): Promise<DockerRegistry> {
  const registry = await DockerRegistry.start();
  after(() => registry[Symbol.asyncDispose]());
  return registry;
}

/** The VMM processes whose command line names `marker`, such as the directory of a test home. */
export function vmmPids(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "latin1");
        return command.includes("qemu-system") && command.includes(marker);
      } catch {
        return false; // it ended while we looked
      }
    });
}

/** Waits until nothing of that kind runs any more: what has no event to wait for. */
export async function untilGone(marker: string, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs;
  while (vmmPids(marker).length > 0) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}
