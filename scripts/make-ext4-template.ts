// SPDX-License-Identifier: Apache-2.0
//
// Regenerates assets/ext4-*.zst, the file systems that every machine's writable disk starts from, with mke2fs
// and debugfs (e2fsprogs ≥ 1.47) and qemu-img. Run it only to change them: the result is committed and src/machine/disk.ts reads it.
//
// A template is zstd of: "MVMEXT4\0", u64 size of the file system, then for each run of blocks that are not all
// zeros u64 offset, u32 length, and the bytes. Integers are little-endian.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, zstdCompressSync } from "node:zlib";

const assets = join(dirname(fileURLToPath(import.meta.url)), "../assets");
const MiB = 1024 * 1024;
const blockSize = 4096;
const zeros = Buffer.alloc(blockSize);
const timestamp = "1767225600";

// 20 GiB is the default disk: it needs no growing, which would cost the guest as much as booting does. The others
// are where a smaller disk starts growing from; journals as large as they would be on a disk made at full size.
const templates = [
  { name: "ext4-64m", sizeMiB: 64, journalMiB: 4 },
  { name: "ext4-1g", sizeMiB: 1024, journalMiB: 32 },
  { name: "ext4-20g", sizeMiB: 20 * 1024, journalMiB: 64 },
];

const hashSeed = "hash_seed=6d6b6653-0000-4000-8000-000000000002";
const features = [
  ...["has_journal", "ext_attr", "dir_index", "filetype", "extent", "64bit", "flex_bg", "sparse_super"],
  ...["large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum"],
];

const work = mkdtempSync(join(tmpdir(), "ext4-template-"));
try {
  for (const { name, sizeMiB, journalMiB } of templates) {
    const image = join(work, name);
    writeFileSync(image, "");
    truncateSync(image, sizeMiB * MiB);
    format(image, journalMiB);
    const template = zstdCompressSync(pack(image, sizeMiB * MiB), {
      params: { [constants.ZSTD_c_compressionLevel]: 19 },
    });
    writeFileSync(join(assets, `${name}.zst`), template);
    console.log(`${name}: ${template.length} bytes`);
  }
} finally {
  rmSync(work, { recursive: true });
}

function format(image: string, journalMiB: number): void {
  const args = [
    ...["-q", "-F", "-t", "ext4", "-b", String(blockSize), "-m", "0"],
    ...["-J", `size=${journalMiB}`],
    // Without the resize inode there is nothing to write for growth that may never come: the kernel grows by
    // switching to meta_bg. The rest is what mke2fs has made by default since 2018, whatever this machine's
    // mke2fs.conf says.
    ...["-O", `none,${features.join(",")}`],
    ...["-I", "256", "-i", "16384"],
    // Every machine has one of these and none sees another's, so they may be alike.
    ...["-U", "6d6b6653-0000-4000-8000-000000000001"],
    ...["-E", `${hashSeed},root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1`],
    image,
  ];
  run("mke2fs", args);
  // The overlay's two directories: making them takes the guest longer than finding them.
  const commands = ["upper", "work"].flatMap((dir) => [
    `mkdir ${dir}`,
    ...["atime", "ctime", "mtime", "crtime"].map((field) => `set_inode_field ${dir} ${field} @${timestamp}`),
  ]);
  run("debugfs", ["-w", "-f", "-", image], [...commands, `set_super_value wtime @${timestamp}`].join("\n"));
}

/** Returns what the program printed. */
function run(program: string, args: readonly string[], input = ""): string {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    env: { ...process.env, E2FSPROGS_FAKE_TIME: timestamp, TZ: "UTC" },
  });
  if (error) throw new Error(`${program}: ${error.message}`, { cause: error });
  if (status !== 0) throw new Error(`${program}: exit status ${status}: ${stderr}`);
  return stdout;
}

function pack(image: string, size: number): Uint8Array {
  const header = Buffer.alloc(16);
  header.write("MVMEXT4\0", "latin1");
  header.writeBigUInt64LE(BigInt(size), 8);
  const parts: Uint8Array[] = [header];
  let current: { offset: number; blocks: Uint8Array[] } | undefined;
  const endRun = (): void => {
    if (!current) return;
    const data = Buffer.concat(current.blocks);
    const head = Buffer.alloc(12);
    head.writeBigUInt64LE(BigInt(current.offset));
    head.writeUInt32LE(data.length, 8);
    parts.push(head, data);
    current = undefined;
  };
  for (const { offset, block } of blocks(image)) {
    if (block.equals(zeros)) {
      endRun();
      continue;
    }
    // A hole may lie between two of them.
    if (current && offset !== current.offset + current.blocks.length * blockSize) endRun();
    current ??= { offset, blocks: [] };
    current.blocks.push(Buffer.from(block));
  }
  endRun();
  return Buffer.concat(parts);
}

/** The blocks that are not holes. Only qemu-img tells where those are, and reading them all takes a minute. */
function* blocks(image: string): Generator<{ offset: number; block: Buffer }> {
  const map = JSON.parse(run("qemu-img", ["map", "--output=json", "-f", "raw", image])) as Extent[];
  const fd = openSync(image, "r");
  try {
    const block = Buffer.alloc(blockSize);
    for (const { start, length, zero } of map) {
      if (zero) continue;
      const first = Math.floor(start / blockSize) * blockSize;
      for (let offset = first; offset < start + length; offset += blockSize) {
        if (readSync(fd, block, 0, blockSize, offset) !== blockSize) throw new Error(`${image}: short read`);
        yield { offset, block };
      }
    }
  } finally {
    closeSync(fd);
  }
}

interface Extent {
  readonly start: number;
  readonly length: number;
  readonly zero: boolean;
}
