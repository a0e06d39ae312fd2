// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { type DiskExtent, diskDescriptor } from "./disk.ts";
import { pattern } from "./testing/layers.ts";

const directory = mkdtempSync(join(tmpdir(), "microvm-disk-"));
after(() => rmSync(directory, { recursive: true, force: true }));

describe("a disk descriptor", () => {
  test("lists its extents in order, in sectors, without empty ones", () => {
    const text = diskDescriptor([
      { path: "rootfs.erofs", sizeBytes: 1024 },
      { path: "../empty.tar", sizeBytes: 0 },
      { path: "../a b/layer.tar", sizeBytes: 512 },
    ]);
    const extents = text.split("\n").filter((line) => line.startsWith("RW "));
    assert.deepEqual(extents, ['RW 2 FLAT "rootfs.erofs" 0', 'RW 1 FLAT "../a b/layer.tar" 0']);
  });

  test("has only the keys that libkrun's reader knows", () => {
    const text = diskDescriptor([{ path: "a", sizeBytes: 512 }]);
    const keys = text.split("\n").flatMap((line) => /^([\w.]+) *=/.exec(line)?.slice(1) ?? []);
    for (const key of keys) assert.match(key, /^(version|CID|parentCID|createType|ddb\..*)$/);
    assert.match(text, /^# Disk DescriptorFile\nversion=1\n/);
  });

  test("refuses paths that it cannot hold", () => {
    for (const path of ['a"b', "a\nb", "a\rb", "a\0b", "p".repeat(512), "é".repeat(256)]) {
      assert.throws(() => diskDescriptor([{ path, sizeBytes: 512 }]), { code: "IMAGE_UNSUPPORTED" }, path);
    }
  });

  test("refuses extents that are not whole sectors", () => {
    assert.throws(() => diskDescriptor([{ path: "a", sizeBytes: 513 }]), RangeError);
  });
});

const skip =
  spawnSync("qemu-img", ["--version"]).status === 0 ? false : "needs qemu-img: apt-get install qemu-utils";

test("QEMU reads the extents one after the other, wherever the descriptor stands", { skip }, () => {
  mkdirSync(join(directory, "layers"));
  mkdirSync(join(directory, "a disk"));
  const contents = [pattern(1536, 1), pattern(512, 2), pattern(70_144, 3)];
  const extents: DiskExtent[] = contents.map((data, index) => {
    writeFileSync(join(directory, "layers", `${index} é`), data);
    return { path: `../layers/${index} é`, sizeBytes: data.length };
  });
  const disk = join(directory, "a disk", "disk.vmdk");
  const raw = join(directory, "raw");
  writeFileSync(disk, diskDescriptor([...extents, { path: "none", sizeBytes: 0 }]));
  execFileSync("qemu-img", ["convert", "-f", "vmdk", "-O", "raw", disk, raw]);
  assert.ok(readFileSync(raw).equals(Buffer.concat(contents)));
});
