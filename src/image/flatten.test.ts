// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { type FlattenLayer, flatten } from "./flatten.ts";
import { IMAGE_LIMITS } from "./limits.ts";
import { scanTarFile } from "./tar/scan-file.ts";
import { ErofsReader, type SeenFile } from "./testing/erofs-reader.ts";
import { erofsTools, runTool } from "./testing/erofs-tools.ts";
import { readHostTree } from "./testing/host-tree.ts";
import { layerBeyondUmoci, layerStack, pattern, SPARSE_FILES } from "./testing/layers.ts";
import { storeLayers } from "./testing/stored-layers.ts";
import { type Member, tar } from "./testing/tar-writer.ts";

const directory = mkdtempSync(join(tmpdir(), "microvm-flatten-"));
after(() => rmSync(directory, { recursive: true, force: true }));

let nextDirectory = 0;
function newDirectory(): string {
  const path = join(directory, String(nextDirectory));
  nextDirectory += 1;
  mkdirSync(path);
  return path;
}

async function read(layers: readonly FlattenLayer[]): Promise<Map<string, SeenFile>> {
  const { rootfsPath } = await flatten({ layers, outDir: newDirectory() });
  using reader = new ErofsReader(
    rootfsPath,
    layers.map(({ path }) => path),
  );
  return reader.readAll();
}

describe("flatten", () => {
  test("makes an image of no layers, and of layers of nothing", async () => {
    assert.deepEqual([...(await read([])).keys()], ["/"]);
    const empty = storeLayers(newDirectory(), [tar([]), Buffer.alloc(0), tar([])]);
    assert.deepEqual([...(await read(empty)).keys()], ["/"]);
  });

  test("gives the same image for entries found while streaming as for those it finds itself", async () => {
    const layers = storeLayers(newDirectory(), layerStack());
    const scanned = await Promise.all(
      layers.map(async (layer) => ({ ...layer, entries: await scanTarFile(layer.path) })),
    );
    assert.deepEqual(await read(scanned), await read(layers));
  });

  test("takes what umoci does not, as docs/IMAGES.md says", async () => {
    const files = await read(storeLayers(newDirectory(), [...layerStack(), layerBeyondUmoci()]));
    assert.equal(files.get("/types/empty")?.type, "directory");
    assert.equal(files.get("/types/empty/now-a-directory")?.type, "file");
    assert.equal(files.get("/beyond/contiguous")?.size, 1);
    assert.equal(files.get("/beyond/contiguous")?.links, 1);
    assert.equal(files.get("/beyond/libarchive")?.xattrs.get("user.percent%"), "value");
    assert.equal(files.get("/beyond/empty-xattr")?.xattrs.get("user.empty"), "");
    assert.equal(files.get("/sparse/hole-old")?.size, 5_000_000);
    for (const path of files.keys()) assert.ok(!path.includes(".wh."), path);
  });

  test("names layers relative to where the disk will be", async () => {
    const [layer] = storeLayers(newDirectory(), [tar([{ path: "a" }])]);
    const finalDir = join(directory, "rootfs", "sha256", "0123");
    const { diskPath } = await flatten({ layers: [layer!], outDir: newDirectory(), finalDir });
    assert.match(readFileSync(diskPath, "utf8"), /^RW \d+ FLAT "\.\.\/\.\.\/\.\.\/\d+\/layer-0\.tar" 0$/m);
  });

  test("says which layer and which entry is wrong", async () => {
    const layers = storeLayers(newDirectory(), [
      tar([]),
      tar([{ type: "1", path: "b\x1b[2J", linkPath: "a" }]),
    ]);
    const named = layers.map((layer, index) => ({ ...layer, name: `sha256:${index}` }));
    await assert.rejects(flatten({ layers: named, outDir: newDirectory() }), {
      code: "IMAGE_CORRUPT",
      message: 'layer sha256:1: "b\\u001b[2J": hard link to "a", which does not exist',
    });
  });

  test("notices a stored layer of another size", async () => {
    const [layer] = storeLayers(newDirectory(), [tar([{ path: "a" }])]);
    appendFileSync(layer!.path, "x");
    await assert.rejects(flatten({ layers: [layer!], outDir: newDirectory() }), { code: "IMAGE_CORRUPT" });
  });

  test("notices entries that lie outside the stored layer", async () => {
    const [layer] = storeLayers(newDirectory(), [tar([{ path: "a", data: "x" }])]);
    const [entry] = await scanTarFile(layer!.path);
    const entries = [{ ...entry!, size: 1_000_000 }];
    await assert.rejects(flatten({ layers: [{ ...layer!, entries }], outDir: newDirectory() }), {
      code: "IMAGE_CORRUPT",
    });
  });

  test("counts the entries of all layers together", async () => {
    const layers = storeLayers(newDirectory(), [tar([{ path: "a" }]), tar([{ path: "b" }])]);
    const limits = { ...IMAGE_LIMITS, maxEntries: 1 };
    await assert.rejects(flatten({ layers, outDir: newDirectory(), limits }), { code: "IMAGE_LIMIT" });
  });

  test("refuses more layers than the limit", async () => {
    const [layer] = storeLayers(newDirectory(), [tar([])]);
    const layers = Array.from({ length: 257 }, () => layer!);
    await assert.rejects(flatten({ layers, outDir: newDirectory() }), {
      code: "IMAGE_LIMIT",
      message: "257 layers",
    });
    assert.equal((await read(layers.slice(0, 256))).size, 1);
  });

  test("stops when aborted", async () => {
    const layers = storeLayers(newDirectory(), [tar([{ path: "a" }])]);
    const signal = AbortSignal.abort(new Error("enough"));
    await assert.rejects(flatten({ layers, outDir: newDirectory(), signal }), { message: "enough" });
  });
});

const tools = erofsTools();
const bin = "bin" in tools ? tools.bin : "";

describe("erofs-utils", { skip: "missing" in tools ? tools.missing : false }, () => {
  test("fsck.erofs finds nothing wrong with an image and its layers", async () => {
    const layers = storeLayers(newDirectory(), [...layerStack(), layerBeyondUmoci()]);
    const { rootfsPath } = await flatten({ layers, outDir: newDirectory() });
    patchSuperblock(rootfsPath, { checksum: false });
    const output = runTool(bin, "fsck.erofs", ...layers.map(({ path }) => `--device=${path}`), rootfsPath);
    assert.equal(output, "");
  });

  test("fsck.erofs does find what is wrong with a damaged image", async () => {
    const layers = storeLayers(newDirectory(), layerStack());
    const { rootfsPath } = await flatten({ layers, outDir: newDirectory() });
    patchSuperblock(rootfsPath, { checksum: false });
    const image = readFileSync(rootfsPath);
    image.fill(0xff, 4096, 8192);
    writeFileSync(rootfsPath, image);
    assert.throws(() =>
      runTool(bin, "fsck.erofs", ...layers.map(({ path }) => `--device=${path}`), rootfsPath),
    );
  });

  const notRoot = process.getuid?.() === 0 ? false : "needs root, to extract devices and owners";
  test("fsck.erofs extracts the very files that our reader sees", { skip: notRoot }, async () => {
    const layers = storeLayers(newDirectory(), [...layerStack(), layerBeyondUmoci()]);
    const { rootfsPath } = await flatten({ layers, outDir: newDirectory() });
    using reader = new ErofsReader(
      rootfsPath,
      layers.map(({ path }) => path),
    );
    const ours = reader.readAll();
    // As one device: erofs-utils to 1.9 look for blocks of extra devices in the wrong file.
    for (const { path } of layers) appendFileSync(rootfsPath, readFileSync(path));
    patchSuperblock(rootfsPath, { checksum: false, devices: false });
    const extracted = join(newDirectory(), "root");
    runTool(bin, "fsck.erofs", `--extract=${extracted}`, "--preserve", rootfsPath);
    const theirs = readHostTree(extracted);
    assert.deepEqual([...theirs.keys()].sort(), [...ours.keys()].sort());
    const endInHole = SPARSE_FILES.filter(({ size, pieces }) => (pieces.at(-1)?.offset ?? 0) < size - 10_000);
    for (const [path, { type, uid, gid, size, target, sha256, device, mode }] of theirs) {
      // These it cuts where the hole starts.
      if (endInHole.some((sparse) => path.startsWith(`/${sparse.path}-`))) continue;
      assert.partialDeepStrictEqual(ours.get(path), { type, uid, gid, size, target, sha256, device }, path);
      // chown(2) after chmod(2) takes these bits away again.
      if (type !== "symlink") assert.equal(mode & 0o1777, ours.get(path)!.mode & 0o1777, path);
    }
  });

  test("mkfs.erofs makes the same files of a tar by itself", async () => {
    const members: Member[] = [
      { type: "5", path: "d/", mode: 0o1750, uid: 70_000 },
      { path: "d/file", data: "contents", mode: 0o4755, mtime: 1_234_567_890 },
      { path: "d/empty", gid: 4_000_000_000 },
      { path: "d/large", data: pattern(100_000) },
      { type: "1", path: "d/link", linkPath: "d/file" },
      { type: "2", path: "d/symlink", linkPath: "file", mode: 0o777 },
      { type: "3", path: "d/null", devMajor: 1, devMinor: 3, mode: 0o666 },
      { type: "4", path: "d/disk", devMajor: 259, devMinor: 70_000 },
      { type: "6", path: "d/fifo" },
      { path: "d/xattr", xattrs: { "user.a": "1", "security.capability": "c" } },
      { type: "5", path: "d/many/" },
      ...Array.from({ length: 60 }, (_, n) => ({ path: `d/many/${n}` })),
    ];
    const [layer] = storeLayers(newDirectory(), [tar(members)]);
    const { rootfsPath } = await flatten({ layers: [layer!], outDir: newDirectory() });
    const theirImage = join(newDirectory(), "theirs.erofs");
    runTool(bin, "mkfs.erofs", "--quiet", "--tar=i", "-b512", theirImage, layer!.path);
    for (const path of ["d", "d/many", "d/many/59", ...members.slice(1, 10).map(({ path }) => path)]) {
      const [ours, theirs] = [rootfsPath, theirImage].map((image) => stat(image, layer!.path, `/${path}`));
      assert.ok(ours !== undefined && ours.length >= 5, `${path}: ${ours}`);
      assert.deepEqual(ours, theirs, path);
    }
  });

  /** What `dump.erofs` says of a file, without what every writer is free in. */
  function stat(image: string, tarPath: string, path: string): string[] {
    const output = runTool(bin, "dump.erofs", `--device=${tarPath}`, `--path=${path}`, image);
    return output.match(/(Path|Size|Links|Uid|Gid|Access|Timestamp|Xattr size) ?: *\S+( [\d:.]+)?/g) ?? [];
  }
});

/** fsck.erofs 1.8 takes the checksum of a 512-byte superblock block over memory that is not its own. */
function patchSuperblock(path: string, keep: { checksum: boolean; devices?: boolean }): void {
  const file = openSync(path, "r+");
  const superblock = readFileSync(path).subarray(1024, 1152);
  if (!keep.checksum) superblock.writeUInt32LE(superblock.readUInt32LE(8) & ~1, 8);
  if (keep.devices === false) {
    superblock.writeUInt32LE(superblock.readUInt32LE(80) & ~8, 80);
    superblock.writeUInt16LE(0, 86);
    superblock.writeUInt32LE(readFileSync(path).length / 512, 36);
  }
  writeSync(file, superblock, 0, superblock.length, 1024);
  closeSync(file);
}
