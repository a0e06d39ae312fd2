// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { flatten } from "../flatten.ts";
import { IMAGE_LIMITS } from "../limits.ts";
import type { TarEntry } from "../tar/entry.ts";
import { dir, entry, file, merge, symlink } from "../testing/entries.ts";
import { ErofsReader, type SeenFile } from "../testing/erofs-reader.ts";
import { layerBeyondUmoci, layerStack, pattern, SPARSE_FILES } from "../testing/layers.ts";
import { sparseContents, sparseMember } from "../testing/sparse.ts";
import { storeLayers } from "../testing/stored-layers.ts";
import { crc32c } from "./crc32c.ts";
import { writeErofs } from "./write.ts";

const directory = mkdtempSync(join(tmpdir(), "microvm-erofs-"));
after(() => rmSync(directory, { recursive: true, force: true }));

const imagePath = join(directory, "rootfs.erofs");

async function seen(entries: readonly TarEntry[]): Promise<Map<string, SeenFile>> {
  await writeErofs(merge(entries).root, [], imagePath);
  using reader = new ErofsReader(imagePath);
  return reader.readAll();
}

test("crc32c agrees with the check value of the polynomial", () => {
  // The usual form inverts at the end; the kernel's does not.
  assert.equal((crc32c(Buffer.from("123456789")) ^ 0xffff_ffff) >>> 0, 0xe306_9283);
});

test("the superblock's checksum covers its block without the checksum", async () => {
  await writeErofs(merge([dir("a")]).root, [], imagePath);
  const block = readFileSync(imagePath).subarray(1024, 1536);
  const stored = block.readUInt32LE(4);
  block.writeUInt32LE(0, 4);
  assert.equal(stored, crc32c(block));
});

describe("metadata", () => {
  test("survives, every bit of it", async () => {
    const fields = {
      mode: 0o7123,
      uid: 0xffff_fffe,
      gid: 70_000,
      mtimeSec: -12_345_678_901,
      mtimeNsec: 999_999_999,
    };
    const files = await seen([
      file("f", fields),
      dir("d", fields),
      { ...symlink("s", "t"), ...fields },
      dir(".", fields),
    ]);
    for (const path of ["/f", "/d", "/s", "/"]) assert.partialDeepStrictEqual(files.get(path), fields, path);
  });

  test("of devices holds 12 bits of major and 20 of minor number", async () => {
    const numbers: [number, number][] = [[0, 0], [1, 3], [255, 255], [8, 256], [4095, 0], [0, 0xfffff], [4095, 0xfffff]]; // biome-ignore format: pairs
    const device = (type: TarEntry["type"], [devMajor, devMinor]: [number, number]) =>
      entry(type, `${type[0]}-${devMajor}-${devMinor}`, { devMajor, devMinor });
    const files = await seen(
      numbers.flatMap((pair) => [device("character-device", pair), device("block-device", pair)]),
    );
    for (const [major, minor] of numbers) {
      assert.equal(files.get(`/c-${major}-${minor}`)?.device, `${major}:${minor}`);
      assert.equal(files.get(`/b-${major}-${minor}`)?.type, "block-device");
    }
  });
});

describe("extended attributes", () => {
  const withXattrs = async (xattrs: Record<string, string>): Promise<Record<string, string>> => {
    const map = new Map(Object.entries(xattrs).map(([name, value]) => [name, Buffer.from(value, "latin1")]));
    const files = await seen([file("f", { xattrs: map })]);
    return Object.fromEntries(files.get("/f")?.xattrs ?? []);
  };

  test("of every namespace that Linux filesystems store are kept", async () => {
    const xattrs = {
      "user.a": "1",
      "trusted.t": "\0\xff",
      "security.capability": "c",
      "system.posix_acl_access": "acl",
      "system.posix_acl_default": "default",
      "user.empty": "",
      [`user.${"n".repeat(250)}`]: "long name",
      "user.large": "v".repeat(60_000),
    };
    assert.deepEqual(await withXattrs(xattrs), xattrs);
  });

  test("of the host and of unknown namespaces are left out", async () => {
    const dropped = {
      "security.selinux": "x",
      "com.apple.quarantine": "x",
      "system.nfs4_acl": "x",
      "user.": "x",
    };
    assert.deepEqual(await withXattrs({ ...dropped, "user.a": "1" }), { "user.a": "1" });
  });

  test("of overlayfs are escaped, once for each level", async () => {
    assert.deepEqual(
      await withXattrs({
        "trusted.overlay.opaque": "y",
        "trusted.overlay.overlay.x": "z",
        "user.overlay.a": "b",
      }),
      {
        "trusted.overlay.overlay.opaque": "y",
        "trusted.overlay.overlay.overlay.x": "z",
        "user.overlay.a": "b",
      },
    );
  });

  test("that do not fit when escaped are refused", async () => {
    const name = `trusted.overlay.${"n".repeat(235)}`;
    await assert.rejects(withXattrs({ [name]: "" }), { code: "IMAGE_LIMIT", message: /is too long/ });
  });

  test("beyond what an inode can hold are refused", async () => {
    const xattrs = Object.fromEntries(
      ["a", "b", "c", "d", "e"].map((name) => [`user.${name}`, "v".repeat(65_535)]),
    );
    await assert.rejects(withXattrs(xattrs), {
      code: "IMAGE_LIMIT",
      message: /bytes of extended attributes/,
    });
  });
});

describe("directories", () => {
  test("sort names by their bytes, with . and .. among them", async () => {
    const names = ["!", "-", "..a", "...", ".a", "0", "\x01", "\x7f", "\x80", "\xff", "a", "A"];
    const files = await seen(names.map((name) => file(name)));
    assert.deepEqual([...files.keys()].sort(), ["/", ...names.map((name) => `/${name}`)].sort());
  });

  test("of every size are read back, with tails that fit beside the inode and such that do not", async () => {
    for (let count = 0; count < 120; count += 1) {
      const names = Array.from({ length: count }, (_, n) => `${n}`.padStart(1 + ((n * 7) % 60), "x"));
      const files = await seen([...names.map((name) => file(`d/${name}`)), dir("d/e"), file("z")]);
      assert.equal(files.size, new Set(names).size + 4, `${count} names`);
    }
  });

  test("hold names that fill a block each", async () => {
    const names = Array.from({ length: 20 }, (_, n) => String(n).padStart(255, "n"));
    assert.equal((await seen(names.map((name) => file(name)))).size, 21);
  });

  test("can be a thousand deep", async () => {
    assert.equal((await seen([file(`${"d/".repeat(1000)}f`)])).size, 1002);
  });
});

test("symlinks of every length are read back, with and without xattrs before them", async () => {
  const lengths = [1, 50, 100, 400, 440, 447, 448, 449, 500, 511, 512, 513, 1024, 4095];
  const xattrs = new Map([["user.a", Buffer.from("x".repeat(37))]]);
  const links = lengths.flatMap((length) => [
    symlink(`plain-${length}`, "t".repeat(length)),
    { ...symlink(`xattr-${length}`, "u".repeat(length)), xattrs },
  ]);
  const files = await seen(links);
  for (const length of lengths) {
    assert.equal(files.get(`/plain-${length}`)?.target, "t".repeat(length));
    assert.equal(files.get(`/xattr-${length}`)?.target, "u".repeat(length));
  }
});

test("random trees are read back as they were", async () => {
  const name = fc
    .string({
      unit: fc
        .integer({ min: 1, max: 255 })
        .filter((c) => c !== 47)
        .map((c) => String.fromCharCode(c)),
      minLength: 1,
      maxLength: 255,
    })
    .filter((name) => name !== "." && name !== ".." && !name.startsWith(".wh."));
  const xattrs = fc
    .dictionary(fc.constantFrom("user.a", "user.b", "trusted.c", "security.d"), fc.string({ maxLength: 700 }))
    .map((record) => new Map(Object.entries(record).map(([key, value]) => [key, Buffer.from(value)])));
  const fields = fc.record({
    mode: fc.nat(0o7777),
    uid: fc.nat(0xffff_fffe),
    mtimeNsec: fc.nat(999_999_999),
    xattrs,
  });
  const any = fc
    .tuple(
      fc.constantFrom("file", "directory", "symlink", "fifo" as const),
      name,
      fields,
      fc.string({ minLength: 1, maxLength: 600 }),
    )
    .map(([type, path, fields, target]) =>
      entry(type, path, {
        ...fields,
        linkPath: type === "symlink" ? Buffer.from(target).toString("latin1").replaceAll("\0", "0") : "",
      }),
    );
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(any, { selector: ({ path }) => path, maxLength: 60 }),
      async (entries) => {
        const files = await seen(entries);
        assert.equal(files.size, entries.length + 1);
        for (const { type, path, mode, uid, mtimeNsec, linkPath, xattrs } of entries) {
          const texts = new Map(
            [...xattrs].map(([key, value]) => [key, Buffer.from(value).toString("latin1")]),
          );
          const found = files.get(`/${path}`);
          assert.partialDeepStrictEqual(found, { type, mode, uid, mtimeNsec, target: linkPath });
          assert.deepEqual(found?.xattrs.size, texts.size);
          for (const [key, value] of texts) assert.equal(found?.xattrs.get(key), value);
        }
      },
    ),
    { numRuns: 60 },
  );
});

describe("sparse files", () => {
  test("of every format are read back byte for byte", async () => {
    const formats = ["0.0", "0.1", "1.0", "old"] as const;
    const members = SPARSE_FILES.flatMap((sparse) =>
      formats.map((format) => sparseMember({ ...sparse, path: `${sparse.path}-${format}` }, format)),
    );
    const layers = storeLayers(directory, [Buffer.concat([...members, Buffer.alloc(1024)])]);
    const { rootfsPath, rootfsBytes } = await flatten({ layers, outDir: directory });
    using reader = new ErofsReader(
      rootfsPath,
      layers.map(({ path }) => path),
    );
    const files = reader.readAll();
    for (const sparse of SPARSE_FILES) {
      for (const format of formats) {
        const found = files.get(`/${sparse.path}-${format}`);
        assert.ok(
          found !== undefined && reader.readFile(found).equals(sparseContents(sparse)),
          `${sparse.path} ${format}`,
        );
      }
    }
    assert.ok(rootfsBytes < 64_000, `${rootfsBytes} bytes: more was copied than had to be`);
  });

  test("that would make the image too big are refused", async () => {
    const segments = Array.from({ length: 1000 }, (_, n) => ({
      offset: n * 2 ** 30 + 1,
      dataOffset: 512 + n,
      length: 1,
    }));
    const sparse = file("f", { size: 2 ** 50, sparse: segments });
    const limits = { ...IMAGE_LIMITS, maxSparseOverheadBytes: 100_000 };
    await assert.rejects(writeErofs(merge([sparse]).root, [], imagePath, { limits }), {
      code: "IMAGE_LIMIT",
    });
  });
});

describe("the image as a whole", () => {
  test("is the same for the same layers, byte for byte", async () => {
    const layers = storeLayers(directory, [...layerStack(), layerBeyondUmoci()]);
    const hashes = [];
    for (let run = 0; run < 2; run += 1) {
      const { rootfsPath } = await flatten({ layers, outDir: directory });
      hashes.push(createHash("sha256").update(readFileSync(rootfsPath)).digest("hex"));
    }
    assert.equal(hashes[0], hashes[1]);
  });

  test("replaces an older and longer one", async () => {
    writeFileSync(imagePath, pattern(1 << 20));
    assert.equal((await seen([file("a")])).size, 2);
  });

  test("is refused past its size limit", async () => {
    const entries = Array.from({ length: 1000 }, (_, n) => file(`${n}`));
    const limits = { ...IMAGE_LIMITS, maxMetadataBytes: 50_000 };
    await assert.rejects(writeErofs(merge(entries).root, [], imagePath, { limits }), {
      code: "IMAGE_LIMIT",
      message: /bytes of metadata/,
    });
  });

  test("is refused when the layers are more than block addresses can tell apart", async () => {
    const layer = { path: "never opened", blocks: 2 ** 31 };
    await assert.rejects(writeErofs(merge([]).root, [layer, layer], imagePath), {
      code: "IMAGE_LIMIT",
      message: /2 TiB/,
    });
  });

  test("stops being written when aborted", async () => {
    const entries = Array.from({ length: 100_000 }, (_, n) => file(`${n}`));
    const { root } = merge(entries);
    const controller = new AbortController();
    setImmediate(() => controller.abort(new Error("enough")));
    await assert.rejects(writeErofs(root, [], imagePath, { signal: controller.signal }), {
      message: "enough",
    });
  });
});
