// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { MicrovmError } from "../errors.ts";
import { createWritableDisk, defaultDiskBytes, minimumDiskBytes } from "./disk.ts";

const MiB = 2 ** 20;
const dir = mkdtempSync(join(tmpdir(), "microvm-disk-"));
after(() => rmSync(dir, { recursive: true }));

const e2fsck = spawnSync("e2fsck", ["-V"]).error
  ? "e2fsck is missing: install e2fsprogs to check the disks"
  : false;

describe("a writable disk", () => {
  for (const { size, grow } of [
    { size: minimumDiskBytes, grow: false },
    { size: 100 * MiB, grow: true },
    { size: 1024 * MiB, grow: false },
    { size: 10 * 1024 * MiB, grow: true },
    { size: defaultDiskBytes, grow: false },
    { size: 1024 * 1024 * MiB, grow: true },
  ]) {
    const name = `${size / MiB} MiB`;
    test(`of ${name} is sparse, private and ${grow ? "to be grown" : "needs no growing"}`, async () => {
      const path = join(dir, name);
      const begin = performance.now();
      assert.deepEqual(await createWritableDisk(path, size), { grow });
      const elapsed = performance.now() - begin;
      const stat = statSync(path);
      assert.equal(stat.size, size);
      assert.equal(stat.mode & 0o777, 0o600);
      assert.ok(stat.blocks * 512 < MiB, `takes ${stat.blocks * 512} bytes`);
      assert.ok(elapsed < 1000, `took ${elapsed} ms`);
    });

    test(`of ${name} holds a clean file system`, { skip: e2fsck }, async () => {
      const path = join(dir, `${name}.fsck`);
      await createWritableDisk(path, size);
      // e2fsck reads a larger device than the file system as well, but a hole of a terabyte takes it long.
      if (grow) truncateSync(path, Math.min(size, defaultDiskBytes));
      const { status, stdout } = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
      assert.equal(status, 0, stdout);
    });
  }

  test("is refused below 64 MiB, and no file is left", async () => {
    const path = join(dir, "small");
    await assert.rejects(createWritableDisk(path, minimumDiskBytes - 1), {
      code: "INVALID_OPTION",
      stage: "options",
    });
    await assert.rejects(createWritableDisk(path, Number.NaN), { code: "INVALID_OPTION" });
    assert.equal(existsSync(path), false);
  });

  test("never overwrites a file", async () => {
    const path = join(dir, "twice");
    await createWritableDisk(path, minimumDiskBytes);
    await assert.rejects(createWritableDisk(path, minimumDiskBytes), (error: unknown) => {
      return error instanceof MicrovmError && error.code === "INTERNAL" && /EEXIST/.test(error.message);
    });
    assert.equal(statSync(path).size, minimumDiskBytes);
  });

  test("in a directory that is missing names its path", async () => {
    const path = join(dir, "missing", "disk");
    await assert.rejects(createWritableDisk(path, minimumDiskBytes), (error: unknown) => {
      return error instanceof MicrovmError && error.message.includes(path);
    });
  });
});
