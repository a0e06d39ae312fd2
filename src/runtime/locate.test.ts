// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import { MicrovmError } from "../errors.ts";
import { locateRuntime } from "./index.ts";
import type { LocateRuntimeOptions, Runtime, RuntimeEvent } from "./runtime.ts";
import { krunfwLibrary, optimizedCode } from "./testing/krunfw.ts";
import { type FakeRegistry, fakeRegistry } from "./testing/registry.ts";
import { digestOf } from "./verified-file.ts";

const library = krunfwLibrary();
const saved = { ...process.env };
let registry: FakeRegistry;
let dir: string;
let events: RuntimeEvent[];

before(async () => {
  registry = await fakeRegistry(library);
});
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "microvm-runtime-"));
  events = [];
  registry.requests.length = 0;
  process.env.npm_config_registry = registry.url;
  process.env.npm_config_userconfig = "/dev/null";
  delete process.env.MICROVM_LIBKRUN_DIR;
});
after(async () => {
  await registry[Symbol.asyncDispose]();
  process.env = saved;
});

function locate(options: Partial<LocateRuntimeOptions> = {}): Promise<Runtime> {
  return locateRuntime({
    cacheDir: join(dir, "cache"),
    pins: registry.pins,
    systemDirs: [],
    onEvent: (event) => events.push(event),
    ...options,
  });
}

function code(expected: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof MicrovmError, String(error));
    assert.equal(error.code, expected, error.message);
    return true;
  };
}

function assertKernel(runtime: Runtime): void {
  assert.equal(digestOf([readFileSync(runtime.kernel)]), registry.pins.kernel.sha256);
}

test("the first run fetches the pinned package, the second asks nobody", async () => {
  const first = await locate();
  assertKernel(first);
  assert.equal(first.libkrunfw.source, "pinned");
  assert.equal(registry.requests.length, 2);
  assert.deepEqual(new Set(events.map((event) => event.type)), new Set(["fetching", "fetched", "kernel"]));
  const progress = events.filter((event) => event.type === "fetching").at(-1);
  assert.equal(progress?.receivedBytes, progress?.totalBytes);

  events = [];
  assert.deepEqual(await locate(), first);
  assert.equal(registry.requests.length, 2);
  assert.deepEqual(events, []);
});

test("the library is kept with its licences, readable by this user alone", async () => {
  const { libkrunfw } = await locate();
  const kept = join(libkrunfw.path, "..");
  assert.deepEqual(readdirSync(kept).sort(), ["NOTICE", "libkrunfw.so.5", "package.json"]);
  for (const path of [dir, "cache", "cache/runtime", "cache/runtime/kernel", "cache/runtime/lib"]) {
    assert.equal(statSync(join(dir, path === dir ? "" : path)).mode & 0o077, 0, path);
  }
  assert.equal(statSync(libkrunfw.path).mode & 0o777, 0o600);
});

test("a kernel that was changed is made again from the library, without fetching", async () => {
  const { kernel } = await locate();
  const content = readFileSync(kernel);
  content[5000] = (content[5000] ?? 0) ^ 1;
  writeFileSync(kernel, content);
  events = [];
  assertKernel(await locate());
  assert.equal(registry.requests.length, 2);
  assert.deepEqual(
    events.map((event) => event.type),
    ["rejected", "found", "kernel"],
  );
});

test("a library that was changed is fetched again", async () => {
  const { kernel, libkrunfw } = await locate();
  rmSync(kernel);
  writeFileSync(libkrunfw.path, "something else");
  assertKernel(await locate());
  assert.equal(registry.requests.length, 4);
  assert.deepEqual(readFileSync(libkrunfw.path), library);
});

test("a link in the kernel's place is replaced, what it points to left alone", async () => {
  const { kernel } = await locate();
  const elsewhere = join(dir, "elsewhere");
  writeFileSync(elsewhere, readFileSync(kernel));
  rmSync(kernel);
  symlinkSync(elsewhere, kernel);
  const before = statSync(elsewhere).mtimeMs;
  const again = await locate();
  assert.ok(!readdirSync(join(again.kernel, "..")).includes("elsewhere"));
  assertKernel(again);
  assert.equal(statSync(elsewhere).mtimeMs, before);
});

test("files that others left in the cache are not looked at", async () => {
  const { kernel, libkrunfw } = await locate();
  writeFileSync(join(kernel, "..", "manifest.json"), "{}");
  writeFileSync(join(libkrunfw.path, "..", "libkrun.so.1"), "evil");
  assert.deepEqual(await locate(), { kernel, libkrunfw: { ...libkrunfw } });
});

test("a cache directory that is a link, or somebody else's, is refused", async (t) => {
  mkdirSync(join(dir, "real"));
  symlinkSync(join(dir, "real"), join(dir, "link"));
  await assert.rejects(locate({ cacheDir: join(dir, "link") }), code("INSECURE_DIRECTORY"));
  if (process.getuid?.() !== 0) return t.diagnostic("somebody else's: only root can make one");
  chownSync(join(dir, "real"), 1, 1);
  await assert.rejects(locate({ cacheDir: join(dir, "real") }), code("INSECURE_DIRECTORY"));
});

test("a cache directory that is open to others is refused", async () => {
  mkdirSync(join(dir, "cache"));
  chmodSync(join(dir, "cache"), 0o777);
  await assert.rejects(locate(), code("INSECURE_DIRECTORY"));
});

test("a tarball with other bytes than were pinned is refused", async () => {
  const good = registry.tarball;
  registry.tarball = Buffer.concat([good, Buffer.from("x")]);
  try {
    await assert.rejects(locate(), code("RUNTIME_CORRUPT"));
  } finally {
    registry.tarball = good;
  }
});

test("a library with another hash than was pinned is refused", async () => {
  const pin = { ...registry.pins.libkrunfw, sha256: "0".repeat(64) };
  await assert.rejects(locate({ pins: { ...registry.pins, libkrunfw: pin } }), code("RUNTIME_CORRUPT"));
});

test("a registry that cannot be reached is an error that says what to do", async () => {
  process.env.npm_config_registry = "http://127.0.0.1:9";
  process.env.npm_config_fetch_retries = "0";
  await assert.rejects(locate(), (error) => {
    assert.ok(error instanceof MicrovmError);
    assert.equal(error.code, "RUNTIME_NOT_FOUND");
    assert.match(error.hint ?? "", /MICROVM_LIBKRUN_DIR/);
    return true;
  });
});

test("an aborted search stops", async () => {
  await assert.rejects(locate({ signal: AbortSignal.abort() }), code("ABORTED"));
});

test("a directory named by the user comes first, and must have the library", async () => {
  const own = join(dir, "own");
  mkdirSync(own);
  await assert.rejects(locate({ libraryDir: own }), code("RUNTIME_NOT_FOUND"));
  writeFileSync(join(own, "libkrunfw.so.5"), library);
  const runtime = await locate({ libraryDir: own });
  assert.deepEqual(runtime.libkrunfw, { path: join(own, "libkrunfw.so.5"), source: "explicit" });
  assertKernel(runtime);
  writeFileSync(join(own, "libkrunfw.so.5"), "not a library");
  await assert.rejects(locate({ libraryDir: own }), code("RUNTIME_CORRUPT"));
  assert.deepEqual(registry.requests, []);
});

test("the system's library goes before the pinned one, unless it cannot be read", {
  skip: process.platform !== "linux" && "Linux only",
}, async () => {
  const system = join(dir, "system");
  mkdirSync(system);
  const other = krunfwLibrary({ code: optimizedCode(0x1_0000, 0x200_0000, 0x200_0010) });
  writeFileSync(join(system, "libkrunfw.so.5"), other);
  const runtime = await locate({ systemDirs: [join(dir, "none"), system] });
  assert.equal(runtime.libkrunfw.source, "system");
  assert.notEqual(basename(runtime.kernel), registry.pins.kernel.sha256);
  // Kept under its own hash, and checked against what the library says each time.
  writeFileSync(runtime.kernel, "changed");
  assert.equal(
    digestOf([readFileSync((await locate({ systemDirs: [system] })).kernel)]),
    basename(runtime.kernel),
  );

  writeFileSync(join(system, "libkrunfw.so.5"), other.subarray(0, 5000));
  assert.equal((await locate({ systemDirs: [system] })).libkrunfw.source, "pinned");
  assert.ok(events.some((event) => event.type === "rejected"));
});

test("ten processes with one empty cache all get the kernel", async () => {
  const script = `
    import { locateRuntime } from ${JSON.stringify(join(import.meta.dirname, "index.ts"))};
    const [cacheDir, pins] = process.argv.slice(1);
    const { kernel } = await locateRuntime({ cacheDir, pins: JSON.parse(pins), systemDirs: [] });
    process.stdout.write(kernel);`;
  const args = ["--input-type=module", "-e", script, join(dir, "cache"), JSON.stringify(registry.pins)];
  const runs = Array.from({ length: 10 }, () => promisify(execFile)(process.execPath, args));
  const kernels = new Set((await Promise.all(runs)).map(({ stdout }) => stdout));
  assert.equal(kernels.size, 1);
  const [kernel] = kernels;
  assert.equal(digestOf([readFileSync(kernel ?? "")]), registry.pins.kernel.sha256);
  assert.deepEqual(readdirSync(join(dir, "cache/runtime/kernel")), [registry.pins.kernel.sha256]);
});
