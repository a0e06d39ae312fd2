// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MicrovmError } from "../../errors.ts";
import { IMAGE_LIMITS } from "../limits.ts";
import { SPARSE_FILES } from "../testing/layers.ts";
import { type SparseFormat, sparseContents, sparseMember } from "../testing/sparse.ts";
import { type Member, member, tar, writeNumber } from "../testing/tar-writer.ts";
import type { TarEntry } from "./entry.ts";
import { TarScanner } from "./scanner.ts";

const END = Buffer.alloc(1024);

function only(archive: Buffer, limits = IMAGE_LIMITS): TarEntry {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner((entry) => entries.push(entry), { limits });
  scanner.write(archive);
  scanner.end();
  assert.equal(entries.length, 1);
  return entries[0]!;
}

describe("sparse files", () => {
  for (const format of ["0.0", "0.1", "1.0", "old"] satisfies SparseFormat[]) {
    for (const file of SPARSE_FILES) {
      test(`of format ${format} are found piece by piece: ${file.path}`, () => {
        const archive = Buffer.concat([
          sparseMember(file, format, { mode: 0o640 }),
          member({ path: "next" }),
          END,
        ]);
        const entries: TarEntry[] = [];
        const scanner = new TarScanner((entry) => entries.push(entry));
        scanner.write(archive);
        scanner.end();
        const [entry, next] = entries;
        assert.ok(entry?.sparse !== undefined);
        assert.equal(next?.path, "next");
        assert.partialDeepStrictEqual(entry, { path: file.path, size: file.size, mode: 0o640, type: "file" });
        const contents = Buffer.alloc(entry.size);
        for (const { offset, dataOffset, length } of entry.sparse) {
          archive.copy(contents, offset, dataOffset, dataOffset + length);
        }
        assert.ok(contents.equals(sparseContents(file)), "contents");
      });
    }
  }
});

describe("sparse files that lie", () => {
  const map = (pairs: string, extra: Partial<Member> = {}): Buffer =>
    tar([
      {
        path: "s",
        data: "x".repeat(100),
        pax: [
          ["GNU.sparse.map", pairs],
          ["GNU.sparse.numblocks", String(pairs.split(",").length / 2)],
          ["GNU.sparse.size", "1000"],
        ],
        ...extra,
      },
    ]);
  const inData = (data: string, realSize = "1000"): Buffer =>
    tar([
      {
        path: "s",
        data,
        pax: [
          ["GNU.sparse.major", "1"],
          ["GNU.sparse.minor", "0"],
          ["GNU.sparse.realsize", realSize],
        ],
      },
    ]);
  const old = (tweak: (block: Buffer) => void): Buffer =>
    tar([{ type: "S", path: "s", format: "gnu", data: "x".repeat(100), tweak }]);

  const cases: [string, Buffer, string, RegExp][] = [
    ["pieces that overlap", map("0,60,50,40"), "IMAGE_CORRUPT", /overlap/],
    ["pieces out of order", map("500,60,0,40"), "IMAGE_CORRUPT", /overlap/],
    ["a piece past the end", map("950,100"), "IMAGE_CORRUPT", /outside the file/],
    ["a negative piece", map("0,-1"), "IMAGE_CORRUPT", /overlap/],
    ["an offset near 2^53", map("9007199254740991,100"), "IMAGE_CORRUPT", /outside the file/],
    ["less data than the map says", map("0,101"), "IMAGE_CORRUPT", /does not match the stored data/],
    ["more data than the map says", map("0,99"), "IMAGE_CORRUPT", /does not match the stored data/],
    ["a map that is no list", map("0,x"), "IMAGE_CORRUPT", /GNU.sparse.map is not/],
    [
      "half a pair",
      map("0,100,5", { pax: [["GNU.sparse.map", "0,100,5"]] }),
      "IMAGE_CORRUPT",
      /malformed sparse map/,
    ],
    [
      "another count than the map's",
      tar([{ path: "s", pax: [["GNU.sparse.numblocks", "3"], ["GNU.sparse.map", "0,0"]] }]), // biome-ignore format: one case
      "IMAGE_CORRUPT",
      /different length than declared/,
    ],
    [
      "pairs that start with a length",
      tar([{ path: "s", pax: [["GNU.sparse.numbytes", "1"]] }]),
      "IMAGE_CORRUPT",
      /malformed PAX sparse map/,
    ],
    [
      "an unknown version",
      tar([{ path: "s", pax: [["GNU.sparse.major", "2"], ["GNU.sparse.minor", "0"]] }]), // biome-ignore format: one case
      "IMAGE_UNSUPPORTED",
      /unknown sparse format/,
    ],
    [
      "a map in the data that is no number",
      inData("x\n".padEnd(512)),
      "IMAGE_CORRUPT",
      /malformed sparse map/,
    ],
    [
      "a map in the data that is longer than the data",
      inData("2\n0\n".padEnd(512, "1")),
      "IMAGE_CORRUPT",
      /malformed sparse map|longer than the file/,
    ],
    ["an empty line in the map", inData("\n".repeat(512)), "IMAGE_CORRUPT", /malformed sparse map/],
    ["a negative real size", inData("0\n".padEnd(512, "\0"), "-1"), "IMAGE_CORRUPT", /size is out of range/],
    [
      "more pieces than allowed",
      inData("100001\n".padEnd(512, "1")),
      "IMAGE_LIMIT",
      /100001 sparse segments/,
    ],
    [
      "an old map in an archive that is not GNU's",
      tar([{ type: "S", path: "s", data: "x" }]),
      "IMAGE_CORRUPT",
      /not GNU's/,
    ],
    ["an old map past the end", old((h) => writeNumber(h, 100, 398, 12)), "IMAGE_CORRUPT", /sparse/],
    [
      "an old map that never ends",
      Buffer.concat([old((h) => h.writeUInt8(1, 482)), END]),
      "IMAGE_CORRUPT",
      /sparse|unexpected end/,
    ],
  ];
  for (const [name, archive, code, message] of cases) {
    test(`are refused for ${name}`, () => {
      assert.throws(
        () => only(archive),
        (error) => {
          assert.ok(error instanceof MicrovmError, String(error));
          assert.equal(error.code, code, error.message);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("are refused where the archive ends within their map", () => {
    const pieces = Array.from({ length: 200 }, (_, n) => ({ offset: n * 10, data: Buffer.from("x") }));
    for (const [format, mapStart] of [
      ["1.0", 1536],
      ["old", 512],
    ] as const) {
      // biome-ignore format: pairs
      const archive = sparseMember({ path: "s", size: 10_000, pieces }, format);
      for (const end of [mapStart, mapStart + 100, mapStart + 512]) {
        assert.throws(
          () => only(archive.subarray(0, end)),
          { code: "IMAGE_CORRUPT", message: /unexpected end/ },
          format,
        );
      }
    }
  });

  test("are refused for an old map of too many pieces, however it goes on", () => {
    const limits = { ...IMAGE_LIMITS, maxSparseSegments: 10 };
    const pieces = Array.from({ length: 30 }, (_, n) => ({ offset: n * 10, data: Buffer.from("x") }));
    for (const format of ["0.0", "0.1", "1.0", "old"] satisfies SparseFormat[]) {
      const archive = Buffer.concat([sparseMember({ path: "s", size: 1000, pieces }, format), END]);
      assert.throws(() => only(archive, limits), { code: "IMAGE_LIMIT" }, format);
    }
  });
});
