// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { userDirs } from "../../internal/dirs.ts";
import { isRunning, type ProcessIdentity } from "../../internal/process.ts";
import { locateRuntime } from "../../runtime/index.ts";
import { mortalCommand } from "../mortal-command.ts";
import { guestInitramfs } from "../testing/guests.ts";
import { findQemu } from "./binary.ts";

const supported = process.arch === "x64" && process.platform === "linux" && findQemu("x64") !== undefined;
const real = {
  skip: !supported && "needs qemu-system-x86_64 on x86-64 Linux: apt install qemu-system-x86",
  timeout: 60_000,
};

async function ownerOfVm(dir: string): Promise<{ owner: ChildProcess; vmm: ProcessIdentity }> {
  const cacheDir = userDirs().cache;
  const { kernel } = await locateRuntime({ cacheDir });
  const script = join(import.meta.dirname, "../testing/own-a-vm.ts");
  const owner = spawn(process.execPath, [script, kernel, guestInitramfs(dir, "sleep"), cacheDir], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  assert.ok(owner.stdout);
  const [line] = await once(owner.stdout, "data");
  return { owner, vmm: JSON.parse(String(line)) };
}

/** The one place that looks again and again: nobody tells a stranger that a process has ended. */
async function hasEnded(identity: ProcessIdentity, withinMs: number): Promise<boolean> {
  for (const deadline = performance.now() + withinMs; performance.now() < deadline; await sleep(10)) {
    if (!isRunning(identity)) return true;
  }
  return false;
}

test("a VMM dies with its owner, though the owner is given no chance to end it", real, async () => {
  const dir = mkdtempSync(join(tmpdir(), "microvm-mortal-"));
  try {
    const { owner, vmm } = await ownerOfVm(dir);
    assert.ok(isRunning(vmm));
    owner.kill("SIGKILL");
    assert.ok(await hasEnded(vmm, 5000), "still running 5 s after its owner");
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("Ctrl-C at the owner's terminal does not reach the VMM", real, async () => {
  const dir = mkdtempSync(join(tmpdir(), "microvm-mortal-"));
  try {
    const { owner, vmm } = await ownerOfVm(dir);
    assert.ok(owner.pid);
    // The owner leads its process group, as a terminal's foreground job does; it does not catch the signal.
    process.kill(-owner.pid, "SIGSTOP");
    assert.ok(isRunning(vmm));
    process.kill(-owner.pid, "SIGINT");
    await sleep(100);
    assert.ok(isRunning(vmm), "the signal went to the owner's group alone");
    process.kill(-owner.pid, "SIGCONT");
    assert.ok(await hasEnded(vmm, 5000), "but it ends with its owner");
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("a command whose parent is gone before it starts does nothing", {
  skip: process.platform !== "linux" && "Linux only",
}, async () => {
  const command = mortalCommand({ file: "/bin/echo", args: ["ran"] });
  const args = command.args.map((arg) => (arg === String(process.pid) ? "1" : arg));
  const child = spawn(command.file, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += String(chunk);
  });
  await once(child, "close");
  assert.equal(output, "");
  assert.equal(child.exitCode, 1);
});
