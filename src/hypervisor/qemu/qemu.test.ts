// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, afterEach, before, test } from "node:test";
import { MicrovmError } from "../../errors.ts";
import { userDirs } from "../../internal/dirs.ts";
import { isRunning } from "../../internal/process.ts";
import { locateRuntime } from "../../runtime/index.ts";
import type { Backend, Vmm, VmmConfig } from "../backend.ts";
import { guestInitramfs } from "../testing/guests.ts";
import { findQemu } from "./binary.ts";
import { qemu } from "./index.ts";

const supported = process.arch === "x64" && process.platform === "linux" && findQemu("x64") !== undefined;
const real = {
  skip: !supported && "needs qemu-system-x86_64 on x86-64 Linux: apt install qemu-system-x86",
  timeout: 120_000,
};

let dir: string;
let backend: Backend;
let config: VmmConfig;
const started: Vmm[] = [];
before(async () => {
  if (!supported) return;
  // The worst a path can be.
  dir = join(mkdtempSync(join(tmpdir(), "microvm-qemu-")), 'a b,c=d"e');
  mkdirSync(dir);
  const { kernel } = await locateRuntime({ cacheDir: userDirs().cache });
  backend = qemu({ cacheDir: userDirs().cache });
  const initramfs = guestInitramfs(dir, "restart");
  config = { name: "test", cpus: 1, memoryMiB: 128, kernel, initramfs, disks: [] };
});
after(() => {
  if (supported) rmSync(join(dir, ".."), { recursive: true });
});

afterEach(async () => {
  for (const vmm of started.splice(0)) {
    vmm.kill();
    await vmm.exited;
  }
});

/** Starts a VM that does not outlive its test. */
async function start(changes: Partial<VmmConfig> = {}, signal?: AbortSignal): Promise<Vmm> {
  const vmm = await backend.start({ ...config, ...changes }, signal);
  started.push(vmm);
  return vmm;
}

/** All that the guest says until it ends. */
async function consoleOf(vmm: Vmm): Promise<string> {
  return await text(vmm.console);
}

test("a guest that restarts ends its VMM, with the reason", real, async () => {
  const vmm = await start();
  assert.ok(isRunning(vmm.identity));
  await consoleOf(vmm);
  assert.deepEqual(await vmm.exited, { code: 0, signal: null, reason: "guest-reset", stderr: "" });
  assert.equal(isRunning(vmm.identity), false);
});

test("several CPUs, disks and a link, at paths with commas, quotes and spaces", real, async () => {
  const descriptor = join(dir, "image,1.vmdk");
  writeFileSync(join(dir, "extent"), Buffer.alloc(1 << 20));
  writeFileSync(
    descriptor,
    '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 2048 FLAT "extent" 0\n',
  );
  const upper = join(dir, "upper,=.raw");
  writeFileSync(upper, "");
  truncateSync(upper, 8 << 20);
  const shared = { path: descriptor, format: "vmdk", readOnly: true } as const;
  const settings: Partial<VmmConfig> = {
    name: "with, all=of it",
    cpus: 2,
    initramfs: guestInitramfs(dir, "log"),
    disks: [shared, { path: upper, format: "raw", readOnly: false }],
    nic: { mac: "02:4b:72:75:6e:00", mtu: 65520 },
  };
  // Two at once share the read-only disk.
  const other = await start({ disks: [shared], initramfs: guestInitramfs(dir, "sleep") });
  const vmm = await start(settings);
  assert.ok(vmm.nic);
  vmm.nic.resume();
  const printed = await consoleOf(vmm);
  assert.equal((await vmm.exited).reason, "guest-reset");
  assert.match(printed, /\[vda\] 2048 512-byte logical blocks/);
  assert.match(printed, /\[vdb\] 16384 512-byte logical blocks/);
  assert.doesNotMatch(printed, /Flags mismatch|probe .* failed/);
  await other.quit();
  assert.equal((await other.exited).reason, "host-quit");
});

test("a guest that writes more than the host's disk holds gets an error, and goes on", real, async (t) => {
  const small = join(dir, "small");
  mkdirSync(small);
  const mount = spawnSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", small], { encoding: "utf8" });
  if (mount.status !== 0) return t.skip(`needs root, to mount a small file system: ${mount.stderr}`);
  try {
    const disk = join(small, "upper.raw");
    writeFileSync(disk, "");
    truncateSync(disk, 8 << 20);
    const vmm = await start({
      initramfs: guestInitramfs(dir, "fill"),
      disks: [{ path: disk, format: "raw", readOnly: false, ephemeral: true }],
    });
    const stuck = setTimeout(() => vmm.kill(), 60_000); // paused, it would stay for ever
    const printed = await consoleOf(vmm);
    clearTimeout(stuck);
    assert.match(printed, /error, dev vda, sector \d+ op 0x1:\(WRITE\)/);
    assert.equal((await vmm.exited).reason, "guest-reset");
    assert.ok(statSync(disk).blocks * 512 >= 128 << 10, "something was written first");
  } finally {
    for (const vmm of started) vmm.kill();
    await Promise.all(started.map((vmm) => vmm.exited));
    spawnSync("umount", [small]);
  }
});

test("a guest whose init returns ends the VMM, and says so on the console", real, async () => {
  const vmm = await start({ initramfs: guestInitramfs(dir, "exit") });
  assert.match(await consoleOf(vmm), /reboot: /);
  assert.equal((await vmm.exited).reason, "guest-reset");
});

test("a kernel that is none is an error with QEMU's words", real, async () => {
  const garbage = join(dir, "garbage");
  writeFileSync(garbage, "not a kernel");
  await assert.rejects(start({ kernel: garbage }), (error) => {
    assert.ok(error instanceof MicrovmError);
    assert.equal(error.code, "VMM_FAILED");
    assert.match(String(error.evidence.stderr), /qemu/);
    return true;
  });
});

test("a VMM that is killed says so, and killing it again does nothing", real, async () => {
  const vmm = await start({ initramfs: guestInitramfs(dir, "sleep") });
  vmm.kill();
  const exit = await vmm.exited;
  assert.equal(exit.signal, "SIGKILL");
  assert.equal(exit.reason, undefined);
  vmm.kill();
  await vmm.quit();
});

test("a start that is aborted leaves no VMM", real, async () => {
  await assert.rejects(start({}, AbortSignal.abort()), (error) => {
    return error instanceof MicrovmError && error.code === "ABORTED";
  });
  const abort = new AbortController();
  const starting = start({ initramfs: guestInitramfs(dir, "sleep") }, abort.signal);
  setImmediate(() => abort.abort());
  await assert.rejects(starting, (error) => error instanceof MicrovmError && error.code === "ABORTED");
});

test(
  "the VMM has its own session, no capabilities, a seccomp filter and next to no environment",
  real,
  async () => {
    process.env.MICROVM_TEST_SECRET = "hush";
    const vmm = await start({ initramfs: guestInitramfs(dir, "sleep") });
    try {
      const { pid } = vmm.identity;
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      const [, , group, session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      assert.deepEqual([group, session], [String(pid), String(pid)], "leads its own group and session");
      const status = readFileSync(`/proc/${pid}/status`, "latin1");
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^Seccomp:\t2$/m);
      assert.match(status, /^CapEff:\t0+$/m);
      const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").filter(Boolean);
      const names = environment.map((entry) => entry.split("=")[0]);
      // dash adds PWD.
      assert.deepEqual(
        names.filter((name) => name !== "PWD"),
        ["PATH"],
      );
      assert.doesNotMatch(environment.join(), /hush/);
    } finally {
      delete process.env.MICROVM_TEST_SECRET;
      await vmm.quit();
    }
  },
);

test("what cannot be is refused before anything is started", real, async () => {
  await assert.rejects(start({ cpus: 0 }), /cpus: 0: must be a whole number from 1 to 255/);
});
