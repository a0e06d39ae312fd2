// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MicrovmError } from "../../errors.ts";
import { EntryBudget, IMAGE_LIMITS } from "../limits.ts";
import {
  gnuLong,
  header,
  type Member,
  member,
  paxHeader,
  rawMember,
  tar,
  writeChecksum,
} from "../testing/tar-writer.ts";
import type { TarEntry } from "./entry.ts";
import { TarScanner, type TarScannerOptions } from "./scanner.ts";

function scan(archive: Buffer, options?: TarScannerOptions): TarEntry[] {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner((entry) => entries.push(entry), options);
  scanner.write(archive);
  scanner.end();
  return entries;
}

function only(archive: Buffer): TarEntry {
  const entries = scan(archive);
  assert.equal(entries.length, 1);
  return entries[0]!;
}

function fails(archive: Buffer, code: string, message: RegExp, options?: TarScannerOptions): void {
  assert.throws(
    () => scan(archive, options),
    (error) => {
      assert.ok(error instanceof MicrovmError, String(error));
      assert.equal(error.code, code, error.message);
      assert.equal(error.stage, "image");
      assert.match(error.message, message);
      return true;
    },
  );
}

const END = Buffer.alloc(1024);
const withEnd = (...parts: Buffer[]) => Buffer.concat([...parts, END]);

describe("tar headers", () => {
  const cases: [string, Buffer, Partial<TarEntry>][] = [
    [
      "a ustar file",
      tar([{ path: "a", data: "hello" }]),
      { type: "file", path: "a", size: 5, dataOffset: 512 },
    ],
    ["a hard link", tar([{ type: "1", path: "a", linkPath: "b" }]), { type: "hardlink", linkPath: "b" }],
    ["a symlink", tar([{ type: "2", path: "a", linkPath: "b" }]), { type: "symlink", linkPath: "b" }],
    ["a directory", tar([{ type: "5", path: "a/" }]), { type: "directory", path: "a/" }],
    ["a fifo", tar([{ type: "6", path: "a" }]), { type: "fifo" }],
    ["a contiguous file", tar([{ type: "7", path: "a", data: "x" }]), { type: "file", size: 1 }],
    [
      "a device",
      tar([{ type: "3", path: "a", devMajor: 5, devMinor: 1 }]),
      { type: "character-device", devMajor: 5, devMinor: 1 },
    ],
    ["a v7 file", tar([{ path: "a", type: "\0", format: "v7", data: "x" }]), { type: "file", size: 1 }],
    ["a v7 directory", tar([{ path: "a/", type: "\0", format: "v7" }]), { type: "directory" }],
    ["a ustar prefix", tar([{ path: "name", prefix: "some/where" }]), { path: "some/where/name" }],
    ["no prefix in a GNU header", tar([{ path: "name", prefix: "123", format: "gnu" }]), { path: "name" }],
    ["a name of exactly 100 bytes", tar([{ path: "n".repeat(100) }]), { path: "n".repeat(100) }],
    ["a name that is not UTF-8", tar([{ path: "\xff\xfe" }]), { path: "\xff\xfe" }],
    ["file type bits in the mode", tar([{ path: "a", mode: 0o104755 }]), { mode: 0o4755 }],
    ["a base-256 size", tar([{ path: "a", data: "xyz", base256: true }]), { size: 3 }],
    ["a base-256 uid", tar([{ path: "a", uid: 4_000_000_000 }]), { uid: 4_000_000_000 }],
    ["a negative base-256 mtime", tar([{ path: "a", mtime: -1 }]), { mtimeSec: -1, mtimeNsec: 0 }],
    [
      "a size on a directory, which has no contents",
      tar([{ type: "5", path: "a", size: 4096 }]),
      { size: 0 },
    ],
    [
      "a size on a hard link, which has no contents",
      tar([{ type: "1", path: "a", linkPath: "b", size: 9 }]),
      { size: 0 },
    ],
    ["an archive without end", tar([{ path: "a", data: "x" }], 0), { size: 1 }],
    ["an archive with one end block", tar([{ path: "a" }], 1), { path: "a" }],
    ["an archive with much padding", tar([{ path: "a" }], 20), { path: "a" }],
    ["contents without padding at the end", tar([{ path: "a", data: "x" }], 0).subarray(0, 513), { size: 1 }],
  ];
  for (const [name, archive, expected] of cases) {
    test(`reads ${name}`, () => assert.partialDeepStrictEqual(only(archive), expected));
  }

  test("reads spaces and missing terminators in number fields", () => {
    const tweak = (block: Buffer) => {
      block.write("  644 \0\0", 100, "latin1");
      block.write("00000000017", 124, "latin1");
      block.write("7", 135, "latin1");
    };
    const data = Buffer.alloc(0o177);
    assert.partialDeepStrictEqual(only(tar([{ path: "a", data, tweak }])), { mode: 0o644, size: 0o177 });
  });

  test("accepts checksums summed with signed characters", () => {
    const block = header({ path: "\xff\xff", size: 0 });
    writeChecksum(block, true);
    assert.equal(only(withEnd(block)).path, "\xff\xff");
  });

  test("reads an archive of nothing, with and without end", () => {
    for (const archive of [END, Buffer.alloc(512), Buffer.alloc(0)]) assert.deepEqual(scan(archive), []);
  });

  test("knows where contents start", () => {
    const archive = tar([
      { path: "a", data: "x".repeat(600) },
      { path: "b", pax: [["comment", "c"]], data: "b" },
    ]);
    const offsets = scan(archive).map(({ dataOffset }) => dataOffset);
    assert.deepEqual(offsets, [512, 512 + 1024 + 1024 + 512]);
    assert.equal(archive.toString("latin1", offsets[1], offsets[1]! + 1), "b");
  });
});

describe("tar extension headers", () => {
  const pax = (...records: [string, string][]): Buffer =>
    tar([{ path: "short", data: "12345", pax: records }]);
  const cases: [string, Buffer, Partial<TarEntry>][] = [
    ["a PAX path", pax(["path", "long"]), { path: "long" }],
    ["a PAX path with a newline", pax(["path", "a\nb=c"]), { path: "a\nb=c" }],
    ["an empty PAX path, which changes nothing", pax(["path", ""]), { path: "short" }],
    [
      "a PAX link path",
      tar([{ type: "2", path: "a", linkPath: "x", pax: [["linkpath", "long"]] }]),
      { linkPath: "long" },
    ],
    ["a PAX size", tar([{ path: "a", data: "12345", size: 0, pax: [["size", "5"]] }]), { size: 5 }],
    ["PAX owners", pax(["uid", "4294967294"], ["gid", "70000"]), { uid: 4_294_967_294, gid: 70_000 }],
    ["a PAX time", pax(["mtime", "12.5"]), { mtimeSec: 12, mtimeNsec: 500_000_000 }],
    ["a PAX time with more than nanoseconds", pax(["mtime", "1.1234567899"]), { mtimeNsec: 123_456_789 }],
    ["a PAX time before 1970", pax(["mtime", "-1.25"]), { mtimeSec: -2, mtimeNsec: 750_000_000 }],
    ["a whole PAX time before 1970", pax(["mtime", "-3"]), { mtimeSec: -3, mtimeNsec: 0 }],
    ["the last of repeated records", pax(["path", "one"], ["path", "two"]), { path: "two" }],
    [
      "star's device numbers",
      tar([{ type: "4", path: "a", pax: [["SCHILY.devmajor", "300"], ["SCHILY.devminor", "70000"]] }]), // biome-ignore format: one case a line
      { devMajor: 300, devMinor: 70_000 },
    ],
    [
      "a GNU long name",
      withEnd(gnuLong("L", "n".repeat(300)), member({ path: "n" })),
      { path: "n".repeat(300) },
    ],
    [
      "a GNU long link",
      withEnd(gnuLong("K", "l".repeat(300)), member({ type: "2", path: "a", linkPath: "l" })),
      { linkPath: "l".repeat(300) },
    ],
    [
      "GNU and PAX names together: GNU's wins",
      withEnd(gnuLong("L", "gnu"), member({ path: "x", pax: [["path", "pax"]] })),
      { path: "gnu" },
    ],
    [
      "a global header, which applies to nothing",
      withEnd(paxHeader([["path", "no"]], "g"), member({ path: "a" })),
      { path: "a" },
    ],
    [
      "an empty PAX header",
      withEnd(rawMember({ type: "x", path: "x" }), member({ path: "a" })),
      { path: "a" },
    ],
  ];
  for (const [name, archive, expected] of cases) {
    test(`reads ${name}`, () => assert.partialDeepStrictEqual(only(archive), expected));
  }

  test("applies an extension header to one member only", () => {
    const archive = tar([{ path: "a", pax: [["path", "long"]], xattrs: { "user.a": "1" } }, { path: "b" }]);
    const [first, second] = scan(archive);
    assert.equal(first?.xattrs.size, 1);
    assert.equal(second?.path, "b");
    assert.equal(second?.xattrs.size, 0);
  });

  test("reads extended attributes of both spellings", () => {
    const { xattrs } = only(
      tar([
        {
          path: "a",
          xattrs: { "user.binary": "\0\n=\xff", "user.empty": "" },
          pax: [
            ["LIBARCHIVE.xattr.user.b%3Da%25", "AAH/"],
            ["LIBARCHIVE.xattr.user.binary", "bm8="],
          ],
        },
      ]),
    );
    const texts = [...xattrs].map(([name, value]) => [name, Buffer.from(value).toString("latin1")]);
    assert.deepEqual(Object.fromEntries(texts), {
      "user.binary": "\0\n=\xff",
      "user.empty": "",
      "user.b=a%": "\0\x01\xff",
    });
  });
});

describe("tars that lie", () => {
  const good: Member = { path: "good", data: "data" };
  const paxBody = (body: string) => withEnd(rawMember({ type: "x", path: "x", data: body }), member(good));
  const cases: [string, Buffer, string, RegExp][] = [
    ["a wrong checksum", flipped(tar([good]), 0), "IMAGE_CORRUPT", /tar: byte 0: header checksum/],
    [
      "a wrong checksum, far in",
      flipped(tar([good, good]), 1030),
      "IMAGE_CORRUPT",
      /byte 1024: header checksum/,
    ],
    ["text instead of a tar", Buffer.from("x".repeat(2000)), "IMAGE_CORRUPT", /checksum/],
    [
      "a size that is no number",
      tar([{ path: "a", tweak: (h) => h.write("zzz", 124) }]),
      "IMAGE_CORRUPT",
      /size is not/,
    ],
    ["a negative size", tar([{ path: "a", size: -1 }]), "IMAGE_CORRUPT", /size is out of range/],
    [
      "a size past 2^53",
      tar([{ path: "a", tweak: (h) => h.fill(0x7f, 125, 136).writeUInt8(0x80, 124) }]),
      "IMAGE_CORRUPT",
      /size is out of range/,
    ],
    ["a negative uid", tar([{ path: "a", uid: -1 }]), "IMAGE_CORRUPT", /uid -1 is out of range/],
    ["the uid that is none", tar([{ path: "a", uid: 0xffff_ffff }]), "IMAGE_CORRUPT", /uid/],
    [
      "a device number too big",
      tar([{ type: "3", path: "a", devMajor: 4096 }]),
      "IMAGE_UNSUPPORTED",
      /device 4096:0/,
    ],
    ["a link to nothing", tar([{ type: "2", path: "a" }]), "IMAGE_CORRUPT", /"a" links to nothing/],
    [
      "an unknown member type",
      tar([{ type: "V", path: "volume" }]),
      "IMAGE_UNSUPPORTED",
      /"volume": member type 0x56/,
    ],
    ["a truncated header", tar([good]).subarray(0, 100), "IMAGE_CORRUPT", /byte 100: unexpected end/],
    ["truncated contents", tar([good], 0).subarray(0, 515), "IMAGE_CORRUPT", /unexpected end/],
    [
      "a truncated extension",
      tar([{ ...good, pax: [["a", "b"]] }]).subarray(0, 600),
      "IMAGE_CORRUPT",
      /unexpected end/,
    ],
    [
      "a truncated extension body",
      tar([{ ...good, pax: [["a", "b".repeat(2000)]] }]).subarray(0, 1024),
      "IMAGE_CORRUPT",
      /byte 1024: unexpected end/,
    ],
    [
      "an extension with nothing after it",
      withEnd(paxHeader([["path", "a"]])),
      "IMAGE_CORRUPT",
      /end of the archive/,
    ],
    [
      "garbage after the end",
      Buffer.concat([tar([good]), Buffer.from("x")]),
      "IMAGE_CORRUPT",
      /garbage after the end/,
    ],
    [
      "a member after the end",
      Buffer.concat([tar([good]), member(good)]),
      "IMAGE_CORRUPT",
      /garbage after the end/,
    ],
    [
      "a member after one block of zeros",
      Buffer.concat([tar([good], 1), member(good)]),
      "IMAGE_CORRUPT",
      /garbage/,
    ],
    ["a PAX record without length", paxBody("path=a\n"), "IMAGE_CORRUPT", /malformed PAX/],
    ["a PAX record that is too long", paxBody("99 path=a\n"), "IMAGE_CORRUPT", /malformed PAX/],
    ["a PAX record without newline", paxBody("8 path=a"), "IMAGE_CORRUPT", /malformed PAX/],
    ["a PAX record without keyword", paxBody("5 =a\n"), "IMAGE_CORRUPT", /malformed PAX/],
    ["a PAX record without equals sign", paxBody("8 patha\n"), "IMAGE_CORRUPT", /malformed PAX/],
    [
      "an equals sign in the next PAX record",
      paxBody("7 path\n8 path=a\n"),
      "IMAGE_CORRUPT",
      /malformed PAX/,
    ],
    ["a PAX record of negative length", paxBody("-9 path=a\n"), "IMAGE_CORRUPT", /malformed PAX/],
    ["a PAX record of length zero", paxBody("0 path=a\n"), "IMAGE_CORRUPT", /malformed PAX/],
    ["NUL in a PAX path", paxBody("12 path=a\0b\n"), "IMAGE_CORRUPT", /NUL in PAX path/],
    ["a PAX uid that is no number", tar([{ ...good, pax: [["uid", "0x10"]] }]), "IMAGE_CORRUPT", /PAX uid/],
    ["a PAX time that is none", tar([{ ...good, pax: [["mtime", "1e9"]] }]), "IMAGE_CORRUPT", /PAX mtime/],
    [
      "a negative PAX size",
      tar([{ ...good, pax: [["size", "-1"]] }]),
      "IMAGE_CORRUPT",
      /size is out of range/,
    ],
    [
      "a huge PAX size",
      tar([{ ...good, pax: [["size", "9007199254740991"]] }]),
      "IMAGE_CORRUPT",
      /size is out of range/,
    ],
    ["an xattr without name", tar([{ ...good, xattrs: { "": "x" } }]), "IMAGE_CORRUPT", /attribute name/],
  ];
  for (const [name, archive, code, message] of cases) {
    test(`refuses ${name}`, () => fails(archive, code, message));
  }
});

describe("tars without measure", () => {
  const limits = { ...IMAGE_LIMITS, maxEntries: 3, maxPaxBytes: 2000, maxPathBytes: 100, maxLinkBytes: 50 };
  const big = (size: number): Member => ({ path: "a", pax: [["comment", "c".repeat(size)]] });
  const cases: [string, Buffer, RegExp][] = [
    ["too many entries", tar(Array.from({ length: 4 }, () => ({ path: "a" }))), /more than 3 files/],
    ["a PAX header too long", tar([big(2000)]), /extension header of \d+ bytes/],
    [
      "a global header too long",
      withEnd(paxHeader([["c", "c".repeat(2000)]], "g"), member({ path: "a" })),
      /extension header/,
    ],
    [
      "a GNU name too long",
      withEnd(gnuLong("L", "n".repeat(2000)), member({ path: "n" })),
      /extension header/,
    ],
    ["a path too long", tar([{ path: "a", pax: [["path", "n".repeat(101)]] }]), /path of 101 bytes/],
    [
      "a target too long",
      tar([{ type: "2", path: "a", linkPath: "l".repeat(51) }]),
      /link target of 51 bytes/,
    ],
    [
      "an xattr name too long",
      tar([{ path: "a", xattrs: { [`user.${"n".repeat(251)}`]: "" } }]),
      /name of 256 bytes/,
    ],
  ];
  for (const [name, archive, message] of cases) {
    test(`refuses ${name}`, () => fails(archive, "IMAGE_LIMIT", message, { limits }));
  }

  test("claims no memory for an extension header that is only announced", () => {
    const announced = header({ type: "x", path: "x", size: 2 ** 40 });
    fails(announced, "IMAGE_LIMIT", /extension header of 1099511627776 bytes/);
  });

  test("refuses xattrs that are too big, one by one and together", () => {
    const value = (length: number) => tar([{ path: "a", xattrs: { "user.a": "v".repeat(length) } }]);
    assert.equal(only(value(65_535)).xattrs.get("user.a")?.length, 65_535);
    fails(value(65_536), "IMAGE_LIMIT", /attribute "user.a" of 65536 bytes/);
    const xattrs = Object.fromEntries(["a", "b", "c"].map((name) => [`user.${name}`, "v".repeat(50_000)]));
    fails(tar([{ path: "a", xattrs }]), "IMAGE_LIMIT", /bytes of extended attributes/);
  });

  test("counts the entries of all layers that share a budget", () => {
    const budget = new EntryBudget(limits);
    const archive = tar([{ path: "a" }, { path: "b" }]);
    scan(archive, { limits, budget });
    fails(archive, "IMAGE_LIMIT", /more than 3 files/, { limits, budget });
  });

  test("counts the bytes that entries keep in memory", () => {
    const small = { ...IMAGE_LIMITS, maxEntryBytes: 100 };
    fails(tar([{ path: "p".repeat(60) }, { path: "q".repeat(60) }]), "IMAGE_LIMIT", /100 bytes of names/, {
      limits: small,
    });
  });
});

function flipped(archive: Buffer, at: number): Buffer {
  const copy = Buffer.from(archive);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}
