// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create } from "tar";
import { pattern } from "../testing/layers.ts";
import { tar } from "../testing/tar-writer.ts";
import type { TarEntry } from "./entry.ts";
import { scanTarFile } from "./scan-file.ts";

const directory = mkdtempSync(join(tmpdir(), "microvm-tar-"));
const source = join(directory, "source");
const archive = join(directory, "archive.tar");
after(() => rmSync(directory, { recursive: true, force: true }));

const LONG = `${"d".repeat(120)}/${"e".repeat(120)}/${"f".repeat(120)}`;

before(() => {
  mkdirSync(join(source, LONG), { recursive: true });
  const files: [string, Buffer][] = [
    ["empty", Buffer.alloc(0)],
    ["small", Buffer.from("small")],
    ["block", pattern(512)],
    ["big", pattern(700_001)],
    [`${LONG}/deep`, Buffer.from("deep")],
    ["ünïcödé ✓", Buffer.from("u")],
    ["new\nline", Buffer.from("n")],
  ];
  for (const [name, data] of files) writeFileSync(join(source, name), data);
  linkSync(join(source, "small"), join(source, "zz-hard-link"));
  symlinkSync(`${"t".repeat(90)}/${"u".repeat(90)}`, join(source, "symlink"));
  execFileSync("mkfifo", [join(source, "fifo")]);
  chmodSync(join(source, "block"), 0o4711);
  utimesSync(join(source, "block"), 1_600_000_000.5, 1_600_000_000.5);
  utimesSync(join(source, "empty"), -100, -100);
});

const PYTHON = `
import sys, tarfile
t = tarfile.open(sys.argv[1], "w", format=getattr(tarfile, sys.argv[3] + "_FORMAT"))
t.add(sys.argv[2], arcname=".")
t.close()`;

const programs: [name: string, tool: string, write: () => Promise<void> | void][] = [
  ["GNU tar, gnu format", "tar", () => run("tar", "--format=gnu", "-cf", archive, "-C", source, ".")],
  ["GNU tar, posix format", "tar", () => run("tar", "--format=posix", "-cf", archive, "-C", source, ".")],
  ["bsdtar, pax format", "bsdtar", () => run("bsdtar", "--format=pax", "-cf", archive, "-C", source, ".")],
  [
    "bsdtar, gnutar format",
    "bsdtar",
    () => run("bsdtar", "--format=gnutar", "-cf", archive, "-C", source, "."),
  ],
  ["Python, PAX format", "python3", () => run("python3", "-c", PYTHON, archive, source, "PAX")],
  ["Python, GNU format", "python3", () => run("python3", "-c", PYTHON, archive, source, "GNU")],
  // It waits for ever on a fifo.
  [
    "node-tar",
    "node",
    () =>
      create(
        { cwd: source, file: archive, sync: true },
        readdirSync(source).filter((name) => name !== "fifo"),
      ),
  ],
];

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"] });
}

describe("tars of real programs", () => {
  for (const [name, tool, write] of programs) {
    const skip =
      spawnSync(tool, ["--version"]).status === 0 ? false : `needs ${tool}: apt-get install libarchive-tools`;
    test(`of ${name} hold what is on disk`, { skip }, async () => {
      await write();
      const entries = await scanTarFile(archive);
      const bytes = readFileSync(archive);
      const seen = new Map(
        entries.map((entry) => [decode(entry.path).replace(/^\.\/|\/$/g, "") || ".", entry]),
      );
      for (const [path, entry] of seen) checkEntry(path, entry, seen, bytes);
      const deep = LONG.split("/").map((_, index, all) => all.slice(0, index + 1).join("/"));
      const expected = [
        ".",
        ...deep,
        `${LONG}/deep`,
        "empty",
        "small",
        "block",
        "big",
        "ünïcödé ✓",
        "new\nline",
      ];
      if (name === "node-tar") expected.shift();
      else expected.push("fifo");
      assert.deepEqual([...seen.keys()].sort(), [...expected, "zz-hard-link", "symlink"].sort());
    });
  }
});

function checkEntry(path: string, entry: TarEntry, all: ReadonlyMap<string, TarEntry>, bytes: Buffer): void {
  const onDisk = lstatSync(join(source, path));
  if (entry.type === "hardlink") {
    const target = decode(entry.linkPath).replace(/^\.\//, "");
    assert.equal(lstatSync(join(source, target)).ino, onDisk.ino);
    assert.ok(all.has(target));
    return;
  }
  assert.equal(entry.mode, onDisk.mode & 0o7777, path);
  assert.equal(entry.uid, onDisk.uid, path);
  assert.equal(entry.gid, onDisk.gid, path);
  assert.ok(Math.abs(entry.mtimeSec + entry.mtimeNsec / 1e9 - onDisk.mtimeMs / 1000) <= 1, `${path}: mtime`);
  assert.equal(entry.type === "file", onDisk.isFile(), path);
  assert.equal(entry.type === "directory", onDisk.isDirectory(), path);
  assert.equal(entry.type === "fifo", onDisk.isFIFO(), path);
  if (entry.type === "symlink") assert.equal(decode(entry.linkPath), readlinkSync(join(source, path)));
  if (entry.type === "file") {
    const contents = bytes.subarray(entry.dataOffset, entry.dataOffset + entry.size);
    assert.ok(contents.equals(readFileSync(join(source, path))), `${path}: contents`);
  }
}

function decode(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

test("sparse files of GNU tar are found in every format", async () => {
  const sparse = join(directory, "sparse");
  mkdirSync(sparse);
  const path = join(sparse, "file");
  writeFileSync(path, pattern(8192));
  truncateSync(path, 3_000_000);
  execFileSync("dd", [
    "if=/dev/urandom",
    `of=${path}`,
    "bs=4096",
    "count=2",
    "seek=300",
    "conv=notrunc",
    "status=none",
  ]);
  const expected = readFileSync(path);
  const formats = [
    "gnu",
    "posix --sparse-version=0.0",
    "posix --sparse-version=0.1",
    "posix --sparse-version=1.0",
  ];
  for (const format of formats) {
    run(
      "tar",
      ...`--format=${format}`.split(" "),
      "--sparse",
      "--hole-detection=raw",
      "-cf",
      archive,
      "-C",
      sparse,
      "file",
    );
    const [entry] = await scanTarFile(archive);
    assert.ok(entry?.sparse !== undefined && entry.sparse.length >= 2, format);
    assert.equal(entry.path, "file");
    const bytes = readFileSync(archive);
    const contents = Buffer.alloc(entry.size);
    for (const { offset, dataOffset, length } of entry.sparse) {
      bytes.copy(contents, offset, dataOffset, dataOffset + length);
    }
    assert.ok(contents.equals(expected), format);
  }
});

describe("scanTarFile", () => {
  const big = Buffer.alloc(3_000_000, 1);
  const write = (bytes: Buffer): string => {
    const path = join(directory, "scan.tar");
    writeFileSync(path, bytes);
    return path;
  };

  test("seeks over long contents and still finds what follows", async () => {
    const path = write(
      tar([
        { path: "a", data: big },
        { path: "b", data: "b" },
        { path: "c", data: big },
      ]),
    );
    assert.deepEqual(
      (await scanTarFile(path)).map(({ path }) => path),
      ["a", "b", "c"],
    );
  });

  test("tells a file that ends within long contents", async () => {
    const path = write(tar([{ path: "a", data: big }]).subarray(0, 2_000_000));
    await assert.rejects(scanTarFile(path), {
      code: "IMAGE_CORRUPT",
      message: /byte 2000000: unexpected end/,
    });
  });

  test("takes a file that lacks only its last padding", async () => {
    const path = write(tar([{ path: "a", data: big.subarray(1) }], 0).subarray(0, 512 + big.length - 1));
    assert.equal((await scanTarFile(path)).length, 1);
  });

  test("stops when aborted", async () => {
    const path = write(tar([{ path: "a" }]));
    await assert.rejects(scanTarFile(path, AbortSignal.abort(new Error("enough"))), { message: "enough" });
  });

  test("fails as open(2) does for a file that is not there", async () => {
    await assert.rejects(scanTarFile(join(dirname(archive), "missing")), { code: "ENOENT" });
  });
});
