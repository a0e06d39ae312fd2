// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { findProgram } from "../mortal-command.ts";
import { findQemu } from "../qemu/binary.ts";
import { probeAcceleration } from "./index.ts";
import { probeImage } from "./probe-image.ts";
import { runProbe } from "./run-probe.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "microvm-probe-test-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const x64 = process.arch === "x64" && process.platform === "linux";
const qemu = x64 ? findQemu("x64") : undefined;
const needsQemu = {
  skip: qemu === undefined && "needs qemu-system-x86_64 on x86-64 Linux: apt install qemu-system-x86",
};

/** A program that stands in for QEMU: descriptor 3 is the guest's debug port. */
function pretendQemu(script: string): string {
  const path = join(dir, "qemu");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

test(
  "the guest's program runs to its end on the emulator, which shows a steady clock",
  needsQemu,
  async () => {
    const image = join(dir, "guest");
    writeFileSync(image, probeImage());
    const run = await runProbe(
      qemu!,
      image,
      ["-accel", "tcg"],
      AbortSignal.timeout(20_000),
      (s) => s.length >= 5,
    );
    assert.equal(run.passed, true, run.failedStep);
    const ticks = run.samples.map((sample) => sample.ticks);
    assert.deepEqual(
      ticks,
      ticks.toSorted((a, b) => a - b),
    );
  },
);

test("a verdict is one word or a sentence, and comes soon", needsQemu, async () => {
  const before = performance.now();
  const { kvm } = await probeAcceleration(qemu!);
  assert.ok(performance.now() - before < 15_000);
  assert.equal(kvm.ok, kvm.reason === "");
});

const kvmTests = {
  skip: !(x64 && existsSync("/dev/kvm")) && "needs an x86-64 Linux with a /dev/kvm, working or not",
};
const onKvm = '[ "$kvm" ]';
const accelerator = 'for a; do [ "$a" = kvm ] && kvm=1; done';

for (const [what, script, reason] of [
  ["a KVM that does everything", "printf PLRMFTCI >&3", /^$/],
  [
    "a KVM that stands still in long mode",
    `${onKvm} && { printf PL >&3; exec sleep 30; }; printf PLRMFTCI >&3`,
    /did not get past running ordinary code/,
  ],
  [
    "a KVM that never enters the guest",
    `${onKvm} && exec sleep 30; printf PLRMFTCI >&3`,
    /did not get past entering the guest/,
  ],
  [
    "a KVM whose guest finds memory wrong",
    `${onKvm} && { printf 'PLR!' >&3; exec sleep 30; }; printf PLRMFTCI >&3`,
    /did not get past touching memory/,
  ],
  [
    "a QEMU that KVM ends",
    `${onKvm} && { echo 'qemu-system-x86_64: error: failed to set MSR' >&2; exit 1; }; printf PLRMFTCI >&3`,
    /^\/dev\/kvm: error: failed to set MSR$/,
  ],
] as const) {
  test(`the verdict on ${what}`, kvmTests, async () => {
    // Without samples the emulator is watched until it ends by itself.
    const { kvm } = await probeAcceleration(pretendQemu(`${accelerator}\n${script}\nsleep 0.1`));
    assert.match(kvm.reason, reason);
    assert.equal(kvm.ok, kvm.reason === "");
  });
}

test("the committed guest is what its source assembles to", (t) => {
  if (!x64 || !findProgram("gcc") || !findProgram("ld")) return t.skip("needs gcc and ld for x86-64");
  execFileSync(process.execPath, [
    join(import.meta.dirname, "../../../scripts/probe-assemble.ts"),
    "--check",
  ]);
});
