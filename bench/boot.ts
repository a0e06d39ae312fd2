// SPDX-License-Identifier: Apache-2.0
//
// From command line to exit: `microvm run --rm IMAGE /bin/true` with the image in the store, against the floor: the
// same VMM with the same kernel, memory and CPUs, booting an /init that powers off at once.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { selectBackend } from "../src/hypervisor/index.ts";
import { DockerRegistry } from "../src/image/testing/docker-registry.ts";
import { locateRuntime } from "../src/runtime/index.ts";
import type { Report } from "./report.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const CLI = join(ROOT, "dist/cli/main.js");
const ROUNDS = Number(process.env["ROUNDS"] ?? 7);
const TARGET = 1.3;

export async function run(report: Report): Promise<void> {
  if (!existsSync(CLI)) throw new Error("not built: npm run build");
  const home = mkdtempSync(join(tmpdir(), "mv-bench-"));
  const env = {
    ...process.env,
    MICROVM_CACHE_DIR: join(home, "cache"),
    MICROVM_DATA_DIR: join(home, "data"),
    MICROVM_RUNTIME_DIR: join(home, "run"),
  };
  const registry = await DockerRegistry.start();
  try {
    registry.pushLayout(join(ROOT, "build/images/tiny"), "tiny");
    const image = `${registry.host}/tiny`;
    await microvm(env, "run", "--rm", "-q", image, "/bin/true"); // pulls, and learns about this host

    const floor = await floorBoot(env.MICROVM_CACHE_DIR, home);
    await floor();
    const floors: number[] = [];
    const ours: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      floors.push(await timed(floor));
      ours.push(await timed(() => microvm(env, "run", "--rm", "-q", image, "/bin/true")));
    }
    report.figure({ name: "boot.floor", value: median(floors), unit: "ms" });
    const ratio = median(ours.map((value, index) => value / (floors[index] ?? Number.NaN)));
    report.figure({
      name: "boot.warm",
      value: median(ours),
      unit: "ms",
      against: "boot.floor",
      ratio,
      target: `≤ ${TARGET} ×`,
      ok: ratio <= TARGET,
    });
    await stages(report, env, image);
  } finally {
    await registry[Symbol.asyncDispose]();
    rmSync(home, { recursive: true, force: true });
  }
}

/** Where the time of one warm start goes, as the library's own events say. */
async function stages(report: Report, env: NodeJS.ProcessEnv, image: string): Promise<void> {
  Object.assign(process.env, env);
  const { run } = (await import(join(ROOT, "dist/index.js"))) as typeof import("../src/index.ts");
  const rows: { name: string; beginMs: number; endMs: number }[] = [];
  const vm = await run(image, {
    command: ["/bin/true"],
    remove: true,
    onEvent: (event) => {
      if (event.type === "stage") rows.push(event.stage);
    },
  });
  await vm.wait();
  for (const { name, beginMs, endMs } of rows) {
    report.figure({
      name: `boot.stage.${name.replace(" ", ".")} at ${beginMs.toFixed(0)}`,
      value: endMs - beginMs,
      unit: "ms",
    });
  }
}

async function floorBoot(cacheDir: string, home: string): Promise<() => Promise<void>> {
  const { backend } = await selectBackend("auto", { cacheDir });
  const { kernel } = await locateRuntime({ cacheDir });
  const initramfs = join(home, "floor.cpio");
  const dir = join(home, "floor");
  mkdirSync(dir);
  execFileSync("gcc", [
    "-static",
    "-nostdlib",
    "-Os",
    "-o",
    join(dir, "init"),
    join(ROOT, "bench/floor/init.c"),
  ]);
  writeFileSync(
    initramfs,
    execFileSync("cpio", ["-o", "-H", "newc", "--quiet"], { cwd: dir, input: "init\n" }),
  );
  return async () => {
    const vmm = await backend.start({ name: "floor", cpus: 1, memoryMiB: 512, kernel, initramfs, disks: [] });
    vmm.console.resume();
    const exit = await vmm.exited;
    if (exit.reason !== "guest-reset" && exit.reason !== "guest-shutdown")
      throw new Error(JSON.stringify(exit));
  };
}

async function microvm(env: NodeJS.ProcessEnv, ...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [CLI, ...args], { env, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`microvm ${args.join(" ")}: exit code ${code}`);
}

async function timed(action: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await action();
  return performance.now() - begin;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
