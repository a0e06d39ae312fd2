// SPDX-License-Identifier: Apache-2.0
//
// Real things for the end-to-end tests: the built command line, Debian's registry, images made with Debian's tools.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

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
  // The runtime is large and the same for all: shared through a cache that all runs of the tests use.
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
export function startCli(env: NodeJS.ProcessEnv, args: readonly string[], input?: string | Buffer): CliProcess {
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
export function cli(env: NodeJS.ProcessEnv, args: readonly string[], input: string | Buffer = ""): Promise<CliResult> {
  return startCli(env, args, input).result;
}

/** Debian's registry on a free loopback port, for the time of one test file: call it at the top of that. */
export async function startRegistry(): Promise<{ readonly address: string; push(layout: string, name: string): void }> {
  const dir = mkdtempSync(join(tmpdir(), "mv-registry-"));
  const address = `127.0.0.1:${await freePort()}`;
  writeFileSync(
    join(dir, "config.yml"),
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "${dir}/data"}, delete: {enabled: true}}
http: {addr: "${address}"}
`,
  );
  const child = spawn("docker-registry", ["serve", join(dir, "config.yml")], { stdio: ["ignore", "ignore", "pipe"] });
  after(async () => {
    child.kill();
    await once(child, "exit");
    rmSync(dir, { recursive: true, force: true });
  });
  execFileSync("curl", [
    ...["-fs", "--retry", "50", "--retry-delay", "0", "--retry-connrefused", "--retry-max-time", "20"],
    ...["-o", "/dev/null", `http://${address}/v2/`],
  ]);
  return {
    address,
    /** Pushes an OCI layout, such as build/images/demo. */
    push(layout, name) {
      execFileSync("skopeo", [
        ...["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"],
        ...[`oci:${layout}:latest`, `docker://${address}/${name}`],
      ]);
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
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
