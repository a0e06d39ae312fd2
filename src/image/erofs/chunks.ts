// SPDX-License-Identifier: Apache-2.0
import type { SparseSegment } from "../tar/entry.ts";
import { alignUp, BLOCK, BLOCK_BITS, CHUNK_ADDRESS_SIZE, CHUNK_BITS_MAX } from "./format.ts";

/**
 * How a sparse file is cut into chunks of equal size. Each is a hole, or a run of blocks in the layer's tar, or
 * a copy in the EROFS image where the bytes of a chunk are not one run of whole blocks in the tar.
 */
export interface ChunkPlan {
  readonly bits: number;
  readonly count: number;
  readonly segments: readonly SparseSegment[];
  readonly size: number;
  /** Bytes that the copies take, whole blocks each. */
  readonly copiedBytes: number;
}

/** The plan that adds least to the image: small chunks make for a long table, big ones for more to copy. */
export function planChunks(stored: readonly SparseSegment[], size: number): ChunkPlan {
  const segments = coalesce(stored);
  let best = planFor(segments, size, BLOCK_BITS);
  for (let bits = BLOCK_BITS + 1; bits <= CHUNK_BITS_MAX && 2 ** (bits - 1) < size; bits += 1) {
    const plan = planFor(segments, size, bits);
    if (addedBytes(plan) < addedBytes(best)) best = plan;
  }
  return best;
}

export function tableBytes({ count }: ChunkPlan): number {
  return count * CHUNK_ADDRESS_SIZE;
}

/** What the plan adds to the EROFS image. */
export function addedBytes(plan: ChunkPlan): number {
  return tableBytes(plan) + plan.copiedBytes;
}

/**
 * The table of block addresses that follows the inode.
 *
 * @param layerBlock where the layer's tar starts in the unified address space
 * @param copyBlock where the copies start
 */
export function chunkTable(plan: ChunkPlan, layerBlock: number, copyBlock: number): Buffer {
  // All ones is the address of a hole.
  const table = Buffer.alloc(tableBytes(plan), 0xff);
  const chunkBytes = 2 ** plan.bits;
  let nextCopy = copyBlock;
  visitChunks(plan.segments, plan.size, plan.bits, {
    direct(first, last, { offset, dataOffset }) {
      for (let chunk = first; chunk <= last; chunk += 1) {
        const address = layerBlock + (dataOffset + chunk * chunkBytes - offset) / BLOCK;
        table.writeUInt32LE(address, chunk * CHUNK_ADDRESS_SIZE);
      }
    },
    copied(first, last) {
      for (let chunk = first; chunk <= last; chunk += 1) {
        table.writeUInt32LE(nextCopy, chunk * CHUNK_ADDRESS_SIZE);
        nextCopy += copyBytes(plan.size, plan.bits, chunk) / BLOCK;
      }
    },
  });
  return table;
}

/** The runs of file bytes that are copied, in order, as `[start, end)` with ends on block boundaries. */
export function copiedRuns(plan: ChunkPlan): { readonly start: number; readonly end: number }[] {
  const runs: { start: number; end: number }[] = [];
  const chunkBytes = 2 ** plan.bits;
  visitChunks(plan.segments, plan.size, plan.bits, {
    direct() {},
    copied(first, last) {
      const end = last * chunkBytes + copyBytes(plan.size, plan.bits, last);
      runs.push({ start: first * chunkBytes, end });
    },
  });
  return runs;
}

function planFor(segments: readonly SparseSegment[], size: number, bits: number): ChunkPlan {
  let copiedBytes = 0;
  visitChunks(segments, size, bits, {
    direct() {},
    copied(first, last) {
      copiedBytes += (last - first) * 2 ** bits + copyBytes(size, bits, last);
    },
  });
  return { bits, count: Math.ceil(size / 2 ** bits), segments, size, copiedBytes };
}

/** Bytes that a copy of `chunk` takes: the last chunk of a file need not be whole. */
function copyBytes(size: number, bits: number, chunk: number): number {
  return Math.min(2 ** bits, alignUp(size - chunk * 2 ** bits, BLOCK));
}

/** Segments that go on where the one before ends, in the file and in the tar, become one. */
function coalesce(segments: readonly SparseSegment[]): readonly SparseSegment[] {
  const result: SparseSegment[] = [];
  for (const segment of segments) {
    const before = result.at(-1);
    if (
      before !== undefined &&
      before.offset + before.length === segment.offset &&
      before.dataOffset + before.length === segment.dataOffset
    ) {
      result[result.length - 1] = { ...before, length: before.length + segment.length };
    } else {
      result.push(segment);
    }
  }
  return result;
}

interface ChunkVisitor {
  /** Chunks that lie in `segment` whole, on block boundaries of the tar. */
  direct(first: number, last: number, segment: SparseSegment): void;
  copied(first: number, last: number): void;
}

/** Visits all chunks that are not holes, ascending. */
function visitChunks(
  segments: readonly SparseSegment[],
  size: number,
  bits: number,
  visitor: ChunkVisitor,
): void {
  const chunkBytes = 2 ** bits;
  let nextCopy = 0;
  const copied = (from: number, last: number) => {
    // The segment before may have ended in the same chunk.
    const first = Math.max(from, nextCopy);
    if (first > last) return;
    visitor.copied(first, last);
    nextCopy = last + 1;
  };
  for (const segment of segments) {
    const end = segment.offset + segment.length;
    const first = Math.floor(segment.offset / chunkBytes);
    const last = Math.floor((end - 1) / chunkBytes);
    const onBlocks = (segment.dataOffset - segment.offset) % BLOCK === 0;
    const firstWhole = segment.offset % chunkBytes === 0 ? first : first + 1;
    const lastWhole = end === Math.min((last + 1) * chunkBytes, size) ? last : last - 1;
    if (!onBlocks || firstWhole > lastWhole) {
      copied(first, last);
    } else {
      copied(first, firstWhole - 1);
      visitor.direct(firstWhole, lastWhole, segment);
      copied(lastWhole + 1, last);
    }
  }
}
