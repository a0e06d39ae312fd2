// SPDX-License-Identifier: Apache-2.0
import type { ByteString } from "../tar/entry.ts";
import { header, type Member, member, writeNumber } from "./tar-writer.ts";

const BLOCK = 512;

/** A file of `size` bytes with `data` at `offset`s and holes between. */
export interface SparseFile {
  readonly path: ByteString;
  readonly size: number;
  readonly pieces: readonly { readonly offset: number; readonly data: Buffer }[];
}

export type SparseFormat = "0.0" | "0.1" | "1.0" | "old";

/** The file as a tar member in one of the formats of GNU tar. */
export function sparseMember(file: SparseFile, format: SparseFormat, extra: Partial<Member> = {}): Buffer {
  const { path, size } = file;
  const pairs = file.pieces.flatMap(({ offset, data }) => [offset, data.length]);
  // GNU tar ends a file that ends in a hole with an empty piece.
  const last = file.pieces.at(-1);
  if (last === undefined || last.offset + last.data.length < size) pairs.push(size, 0);
  const stored = Buffer.concat(file.pieces.map(({ data }) => data));
  const count = String(pairs.length / 2);
  switch (format) {
    case "0.0": {
      const pax = [
        ["GNU.sparse.size", String(size)],
        ["GNU.sparse.numblocks", count],
        ...pairs.map((value, index) => [
          index % 2 ? "GNU.sparse.numbytes" : "GNU.sparse.offset",
          String(value),
        ]),
      ] as [string, string][];
      return member({ ...extra, path, data: stored, pax });
    }
    case "0.1": {
      const pax = [
        ["GNU.sparse.size", String(size)],
        ["GNU.sparse.numblocks", count],
        ["GNU.sparse.name", path],
        ["GNU.sparse.map", pairs.join(",")],
      ] as const;
      return member({ ...extra, path: "GNUSparseFile.0/x", data: stored, pax });
    }
    case "1.0": {
      const map = Buffer.from(`${[count, ...pairs].join("\n")}\n`);
      const data = Buffer.concat([map, Buffer.alloc((BLOCK - (map.length % BLOCK)) % BLOCK), stored]);
      const pax = [
        ["GNU.sparse.major", "1"],
        ["GNU.sparse.minor", "0"],
        ["GNU.sparse.name", path],
        ["GNU.sparse.realsize", String(size)],
      ] as const;
      return member({ ...extra, path: "GNUSparseFile.0/x", data, pax });
    }
    case "old":
      return oldSparseMember(path, size, pairs, stored, extra);
  }
}

function oldSparseMember(
  path: ByteString,
  size: number,
  pairs: readonly number[],
  stored: Buffer,
  extra: Partial<Member>,
): Buffer {
  const extensions: Buffer[] = [];
  for (let at = 8; at < pairs.length; at += 42) {
    const block = Buffer.alloc(BLOCK);
    pairs.slice(at, at + 42).forEach((value, index) => {
      writeNumber(block, value, index * 12, 12);
    });
    if (at + 42 < pairs.length) block.writeUInt8(1, 504);
    extensions.push(block);
  }
  const tweak = (block: Buffer) => {
    pairs.slice(0, 8).forEach((value, index) => {
      writeNumber(block, value, 386 + index * 12, 12);
    });
    if (extensions.length > 0) block.writeUInt8(1, 482);
    writeNumber(block, size, 483, 12);
  };
  const padding = Buffer.alloc((BLOCK - (stored.length % BLOCK)) % BLOCK);
  const head = header({ ...extra, type: "S", path, format: "gnu", size: stored.length, tweak });
  return Buffer.concat([head, ...extensions, stored, padding]);
}

/** What a reader of the file gets. */
export function sparseContents({ size, pieces }: SparseFile): Buffer {
  const contents = Buffer.alloc(size);
  for (const { offset, data } of pieces) data.copy(contents, offset);
  return contents;
}
