// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from "node:fs/promises";
import { corrupt } from "../image-errors.ts";
import type { Pauser } from "../pause.ts";
import { type ChunkPlan, copiedRuns } from "./chunks.ts";
import type { FileSink } from "./sink.ts";

const PIECE = 256 * 1024;

/** Copies the chunks of a sparse file that the image holds itself out of the layer's tar, holes as zeros. */
export async function copyChunks(
  plan: ChunkPlan,
  tarPath: string,
  sink: FileSink,
  offset: number,
  pauser: Pauser,
): Promise<void> {
  const runs = copiedRuns(plan);
  if (runs.length === 0) return;
  const tar = await open(tarPath, "r");
  try {
    let to = offset;
    let segment = 0;
    for (const { start, end } of runs) {
      for (let from = start; from < end; from += PIECE) {
        const length = Math.min(PIECE, end - from);
        segment = await readSegments(plan, segment, from, await sink.view(to, length), tar);
        to += length;
        if (pauser.due()) await pauser.pause();
      }
    }
  } finally {
    await tar.close();
  }
}

/**
 * Fills `out` with what the segments have between `from` and `from + out.length`.
 *
 * @param first no segment before this one matters any more
 * @returns the next `first`
 */
async function readSegments(
  { segments }: ChunkPlan,
  first: number,
  from: number,
  out: Buffer,
  tar: FileHandle,
): Promise<number> {
  const to = from + out.length;
  let index = first;
  for (; index < segments.length; index += 1) {
    const segment = segments[index];
    if (segment === undefined || segment.offset >= to) break;
    const end = segment.offset + segment.length;
    const start = Math.max(segment.offset, from);
    const length = Math.min(end, to) - start;
    if (length > 0) {
      const position = segment.dataOffset + (start - segment.offset);
      await readFully(tar, out.subarray(start - from, start - from + length), position);
    }
    // The rest of this one is for the next call.
    if (end > to) break;
  }
  return index;
}

async function readFully(file: FileHandle, out: Buffer, position: number): Promise<void> {
  for (let done = 0; done < out.length; ) {
    const { bytesRead } = await file.read(out, done, out.length - done, position + done);
    if (bytesRead === 0) throw corrupt("the layer is shorter than its headers say");
    done += bytesRead;
  }
}
