// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MicrovmError } from "../errors.ts";
import type { Availability, Backend } from "./backend.ts";
import { selectBackend } from "./index.ts";
import { qemu } from "./qemu/index.ts";

function backend(availability: Availability): Backend {
  return {
    name: "given",
    availability: () => Promise.resolve(availability),
    start: () => Promise.reject(new Error("not started")),
  };
}

test("a backend that is given is used, with its warning", async () => {
  const given = backend({ ok: true, version: "1", acceleration: "tcg", warning: "slow" });
  const selected = await selectBackend(given);
  assert.deepEqual(selected, { backend: given, version: "1", acceleration: "tcg", warning: "slow" });
});

test("when nothing is available the error has each reason and hint", async () => {
  const given = backend({ ok: false, reason: "not here", hint: "Go there." });
  await assert.rejects(selectBackend(given), (error) => {
    assert.ok(error instanceof MicrovmError);
    assert.equal(error.code, "BACKEND_UNAVAILABLE");
    assert.equal(error.message, "given: not here");
    assert.equal(error.hint, "Go there.");
    return true;
  });
});

test("a name there is not is refused with the names there are", async () => {
  await assert.rejects(selectBackend("xen"), /backend: xen: must be one of auto, .*qemu/);
});

test("a QEMU that is not there, or is something else, is unavailable with a hint", async () => {
  for (const binary of ["/nonexistent/qemu", "/bin/true"]) {
    const availability = await qemu({ binary, accel: "tcg" }).availability();
    assert.equal(availability.ok, false);
    assert.ok(
      !availability.ok && availability.reason.includes(binary) && availability.hint.includes("QEMU 7.2"),
    );
  }
});

test("what is found out about the machine is remembered until it reboots", async (t) => {
  const cacheDir = mkdtempSync(join(tmpdir(), "microvm-select-"));
  try {
    const first = await qemu({ cacheDir }).availability();
    if (!first.ok) return t.skip(`${first.reason}; ${first.hint}`);
    const [name] = readdirSync(join(cacheDir, "machine"));
    const path = join(cacheDir, "machine", name!);
    writeFileSync(path, readFileSync(path, "utf8").replace(first.version, "99.9"));
    assert.deepEqual(await qemu({ cacheDir }).availability(), { ...first, version: "99.9" });
  } finally {
    rmSync(cacheDir, { recursive: true });
  }
});

const needsKvm = {
  skip:
    !(process.arch === "x64" && process.platform === "linux" && existsSync("/dev/kvm")) &&
    "needs an x86-64 Linux with a /dev/kvm, working or not",
};

for (const [what, refusal, isRemembered] of [
  ["that is busy", "echo 'qemu: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy' >&2; exit 1", false],
  ["that may not be opened", "echo 'qemu: Could not access KVM: Permission denied' >&2; exit 1", false],
  ["whose module is not loaded", "echo 'qemu: Could not access KVM: No such device' >&2; exit 1", false],
  ["that cannot run an ordinary kernel", "printf PL >&3; exec sleep 30", true],
  ["that lacks what QEMU wants", "echo 'qemu: error: failed to set MSR 0x4' >&2; exit 1", true],
] as const) {
  test(`the verdict on a KVM ${what} is ${isRemembered ? "" : "not "}remembered`, needsKvm, async () => {
    const dir = mkdtempSync(join(tmpdir(), "microvm-select-"));
    try {
      // Stands in for QEMU; descriptor 3 is the guest's debug port.
      const binary = join(dir, "qemu");
      const refuses = join(dir, "refuses");
      const script = `#!/bin/sh
        case "$*" in
        *--version*) echo 'QEMU emulator version 9.9.9' ;;
        *-help*) ;;
        *"-accel kvm"*) [ -e ${refuses} ] && { ${refusal}; }; printf PLRMFTCI >&3 ;;
        *) printf PLRMFTCI >&3 ;;
        esac
        sleep 0.1`;
      writeFileSync(binary, script, { mode: 0o755 });
      writeFileSync(refuses, "");
      const accelerationNow = async () => {
        const availability = await qemu({ binary, cacheDir: join(dir, "cache") }).availability();
        return availability.ok && availability.acceleration;
      };
      assert.equal(await accelerationNow(), "tcg");
      rmSync(refuses);
      assert.equal(await accelerationNow(), isRemembered ? "tcg" : "kvm");
      writeFileSync(refuses, "");
      assert.equal(await accelerationNow(), isRemembered ? "tcg" : "kvm"); // that it works is remembered
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}
