// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { constants, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { pattern } from "../testing/layers.ts";
import { failsWith } from "../testing/store-fixture.ts";
import { ZstdFrames } from "./zstd-frames.ts";

const skippable = (bytes: number) => {
  const frame = Buffer.alloc(8 + bytes, 7);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
};
const frames = [
  zstdCompressSync(Buffer.alloc(0)),
  zstdCompressSync(Buffer.from("small")),
  zstdCompressSync(Buffer.alloc(400_000, "ab"), { params: { [constants.ZSTD_c_checksumFlag]: 1 } }),
  zstdCompressSync(pattern(300_000)),
];

describe("ZstdFrames", () => {
  it("cuts a stream at the ends of its frames, wherever its chunks are cut", () => {
    const stream = Buffer.concat([skippable(3), ...frames, skippable(0), frames[1]!, skippable(70_000)]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 40 }), (sizes) => {
        const splitter = new ZstdFrames();
        const found: Buffer[] = [];
        let current: Buffer[] = [];
        let length = 0;
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          const size = sizes[turn % sizes.length] ?? 1;
          // Copied, since chunks are overwritten after they were split.
          for (const piece of splitter.split(stream.subarray(at, at + size))) {
            current.push(Buffer.from(piece));
            length += piece.length;
          }
          at += size;
          const done = [...frames, frames[1]!][found.length];
          if (done && length >= done.length) {
            // More than one frame may end within a chunk.
            let rest = Buffer.concat(current);
            for (
              let next: Buffer | undefined = done;
              next && rest.length >= next.length;
              next = [...frames, frames[1]!][found.length]
            ) {
              found.push(rest.subarray(0, next.length));
              rest = rest.subarray(next.length);
            }
            current = [rest];
            length = rest.length;
          }
        }
        assert.ok(splitter.complete);
        assert.deepEqual(
          found.map((frame) => frame.length),
          [...frames, frames[1]!].map((frame) => frame.length),
        );
        assert.ok(Buffer.concat(found).equals(Buffer.concat([...frames, frames[1]!])));
      }),
      { numRuns: 60 },
    );
  });

  it("gives no piece that reaches past a frame's end", () => {
    const pieces = [...new ZstdFrames().split(Buffer.concat([...frames, skippable(5), frames[1]!]))];
    assert.deepEqual(
      pieces.map((piece) => piece.length),
      [...frames, frames[1]!].map((frame) => frame.length),
    );
  });

  it("is not complete within a frame", () => {
    const splitter = new ZstdFrames();
    assert.equal([...splitter.split(frames[3]!.subarray(0, -1))].length, 1);
    assert.equal(splitter.complete, false);
  });

  it("refuses what is no frame", () => {
    const garbage = Buffer.concat([frames[1]!, Buffer.from("garbage")]);
    assert.throws(
      () => [...new ZstdFrames().split(garbage)],
      failsWith("IMAGE_CORRUPT", /garbage after the end/),
    );
    const reserved = Buffer.from("28b52ffd00580700000000", "hex");
    assert.throws(
      () => [...new ZstdFrames().split(reserved)],
      failsWith("IMAGE_CORRUPT", /reserved block type/),
    );
  });
});
