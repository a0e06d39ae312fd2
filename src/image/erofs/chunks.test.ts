// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { SparseSegment } from "../tar/entry.ts";
import { addedBytes, chunkTable, copiedRuns, planChunks } from "./chunks.ts";

const GiB = 2 ** 30;

describe("chunks of sparse files", () => {
  test("are all in the tar when every segment lies on chunk boundaries", () => {
    const plan = planChunks([segment(0, 0, 4096), segment(65_536, 4096, 4096)], 131_072);
    assert.equal(plan.copiedBytes, 0);
    assert.equal(plan.bits, 12);
    assert.deepEqual(addresses(plan, 100, 0).slice(0, 2), [100, undefined]);
    assert.equal(addresses(plan, 100, 0)[16], 108);
  });

  test("are one hole when nothing is stored", () => {
    const plan = planChunks([], 5 * GiB);
    assert.equal(addedBytes(plan), 4);
    assert.deepEqual(addresses(plan, 100, 0), [undefined]);
  });

  test("are copied where a segment starts off a block boundary", () => {
    const plan = planChunks([segment(100, 0, 700)], 2000);
    assert.ok(plan.copiedBytes > 0);
    assert.deepEqual(copiedRuns(plan), [{ start: 0, end: 1024 }]);
  });

  test("do not make a huge table for a huge file with a little data", () => {
    // As /var/log/lastlog where one user has a large id.
    const plan = planChunks([segment(0, 0, 4096), segment(292 * GiB - 292, 4096, 292)], 292 * GiB);
    assert.ok(addedBytes(plan) < 4 << 20, `${addedBytes(plan)} bytes`);
  });

  test("are found for segments that touch, and merged when they also touch in the tar", () => {
    const plan = planChunks([segment(0, 0, 100), segment(100, 100, 412), segment(512, 512, 512)], 1024);
    assert.equal(plan.copiedBytes, 0);
    assert.equal(plan.segments.length, 1);
  });

  test("give every byte its place: random maps", () => {
    fc.assert(
      fc.property(segmentMap, ({ segments, size }) => {
        const plan = planChunks(segments, size);
        const chunk = 2 ** plan.bits;
        const runs = copiedRuns(plan);
        assert.equal(
          runs.reduce((sum, { start, end }) => sum + end - start, 0),
          plan.copiedBytes,
        );
        // Copies start at block 1,000,000, the tar at block 1000; each byte is asked where it is stored.
        const table = addresses(plan, 1000, 1_000_000);
        const copyPlaces = runs.flatMap(({ start, end }) =>
          Array.from({ length: (end - start) / 512 }, (_, n) => start + n * 512),
        );
        for (const offset of probes(segments, size)) {
          const address = table[Math.floor(offset / chunk)];
          const stored = segments.find((s) => s.offset <= offset && offset < s.offset + s.length);
          if (address === undefined) assert.equal(stored, undefined, "a stored byte in a hole");
          else if (address >= 1_000_000) {
            const at = (address - 1_000_000) * 512 + (offset % chunk);
            assert.equal(copyPlaces[Math.floor(at / 512)]! + (at % 512), offset, "a copied byte");
          } else {
            assert.ok(stored !== undefined, "a hole in a direct chunk");
            const at = (address - 1000) * 512 + (offset % chunk);
            assert.equal(at, stored.dataOffset + (offset - stored.offset), "a byte in the tar");
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

function segment(offset: number, dataOffset: number, length: number): SparseSegment {
  return { offset, dataOffset, length };
}

function addresses(
  plan: Parameters<typeof chunkTable>[0],
  layerBlock: number,
  copyBlock: number,
): (number | undefined)[] {
  const table = chunkTable(plan, layerBlock, copyBlock);
  return Array.from({ length: plan.count }, (_, index) => {
    const address = table.readUInt32LE(index * 4);
    return address === 0xffff_ffff ? undefined : address;
  });
}

const gap = fc.oneof(fc.constantFrom(0, 512, 4096, 65_536), fc.integer({ min: 0, max: 10_000 }));
const segmentMap = fc
  .array(fc.tuple(gap, fc.oneof(fc.constantFrom(512, 4096), fc.integer({ min: 1, max: 10_000 }))), {
    maxLength: 8,
  })
  .chain((pieces) => gap.map((end) => ({ pieces, end })))
  .map(({ pieces, end }) => {
    const segments: SparseSegment[] = [];
    let offset = 0;
    let dataOffset = 512;
    for (const [hole, length] of pieces) {
      offset += hole;
      segments.push({ offset, dataOffset, length });
      offset += length;
      dataOffset += length;
    }
    return { segments, size: Math.max(1, offset + end) };
  });

/** Offsets at and beside every boundary. */
function probes(segments: readonly SparseSegment[], size: number): number[] {
  const edges = segments.flatMap(({ offset, length }) => [offset, offset + length]);
  const near = [0, size - 1, ...edges].flatMap((edge) =>
    [-513, -512, -1, 0, 1, 511, 512].map((step) => edge + step),
  );
  return near.filter((offset) => offset >= 0 && offset < size);
}
