// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { MicrovmError } from "../errors.ts";
import type { VmmConfig } from "./backend.ts";
import { checkVmmConfig } from "./check-config.ts";

const good: VmmConfig = {
  name: "vm 1, the first",
  cpus: 1,
  memoryMiB: 64,
  kernel: "/k",
  initramfs: "/i",
  cmdline: "a=b",
  disks: [{ path: "/d", format: "vmdk", readOnly: true }],
  nic: { mac: "02:4b:72:75:6e:00", mtu: 65520 },
};

test("an ordinary configuration passes", () => {
  checkVmmConfig(good);
  checkVmmConfig({ ...good, cpus: 255, cmdline: undefined, nic: undefined, disks: [] });
});

const disk = { path: "/d", format: "raw", readOnly: true } as const;
const refused: readonly (readonly [string, Partial<VmmConfig>])[] = [
  ["name", { name: "" }],
  ["name", { name: "x".repeat(65) }],
  ["name", { name: "new\nline" }],
  ["cpus", { cpus: 0 }],
  ["cpus", { cpus: 256 }],
  ["cpus", { cpus: 1.5 }],
  ["memoryMiB", { memoryMiB: 63 }],
  ["memoryMiB", { memoryMiB: Number.NaN }],
  ["memoryMiB", { memoryMiB: 2 ** 40 }],
  ["kernel", { kernel: "kernel" }],
  ["initramfs", { initramfs: "/a\0b" }],
  ["cmdline", { cmdline: "x".repeat(1025) }],
  ["cmdline", { cmdline: "a\nb" }],
  ["disks", { disks: Array(6).fill(disk) }],
  ["disks[0].path", { disks: [{ ...disk, path: "relative" }] }],
  ["disks[1]", { disks: [disk, { path: "/d", format: "vmdk", readOnly: false }] }],
  ["nic.mac", { nic: { mac: "02:4B:72:75:6E:00" } }],
  ["nic.mac", { nic: { mac: "03:4b:72:75:6e:00" } }],
  ["nic.mtu", { nic: { mac: "02:4b:72:75:6e:00", mtu: 67 } }],
];
for (const [option, changes] of refused) {
  test(`refused by its name: ${JSON.stringify(changes).slice(0, 60)}`, () => {
    assert.throws(
      () => checkVmmConfig({ ...good, ...changes }),
      (error) =>
        error instanceof MicrovmError &&
        error.code === "INVALID_OPTION" &&
        error.message.startsWith(`${option}: `),
    );
  });
}
