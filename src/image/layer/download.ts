// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { formatDigest, hasherOf } from "../digest.ts";
import type { PullLayer } from "../events.ts";
import { corrupt } from "../image-errors.ts";
import { type LayerBudgets, LayerFile, type WrittenLayer } from "./layer-file.ts";

/** Compressed bytes that are hashed and decompressed at a time: more than the network delivers at a time. */
const PIECE_BYTES = 512 * 1024;

/**
 * Streams a layer's blob into the tar file `path`: both its digests are verified to the last byte, and the tar is
 * parsed on the way.
 *
 * @param blob the compressed bytes, exactly `layer.size` of them
 * @param onBytes told the compressed bytes so far
 * @throws MicrovmError `IMAGE_CORRUPT`, `IMAGE_LIMIT`, `IMAGE_UNSUPPORTED`, or what `blob` ends with
 */
export async function downloadLayer(
  blob: AsyncIterable<Buffer>,
  layer: PullLayer,
  path: string,
  budgets: LayerBudgets,
  onBytes: (bytes: number) => void,
): Promise<WrittenLayer> {
  const hash = hasherOf(layer.digest);
  await using file = await LayerFile.create(path, layer.diffId, budgets);
  let failure: { readonly error: unknown } | undefined;
  const consume = async (piece: Buffer): Promise<void> => {
    try {
      if (!failure) await file.write(piece);
    } catch (error) {
      failure = { error };
    }
  };
  let consumed = Promise.resolve();
  for await (const piece of inPieces(blob, onBytes)) {
    hash.update(piece);
    await consumed;
    if (failure && !isVerdict(failure.error)) throw failure.error;
    consumed = consume(piece);
  }
  await consumed;
  const actual = formatDigest(hash, layer.digest);
  if (actual !== layer.digest) {
    throw corrupt(`digest mismatch: expected ${layer.digest}, got ${actual}`, failure?.error);
  }
  if (failure) throw failure.error;
  return await file.finish();
}

/**
 * Whether the bytes were found wanting. Then the rest is still hashed: that the blob is not the one the manifest
 * names explains more than what the decompressor makes of it.
 */
function isVerdict(error: unknown): boolean {
  return (
    error instanceof MicrovmError && (error.code === "IMAGE_CORRUPT" || error.code === "IMAGE_UNSUPPORTED")
  );
}

/**
 * The bytes of `blob` in longer pieces, gathered in two buffers in turn: while one is decompressed, the other fills.
 * A piece is overwritten when the next but one is asked for.
 */
async function* inPieces(
  blob: AsyncIterable<Buffer>,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Buffer, void, undefined> {
  let filling = Buffer.allocUnsafeSlow(PIECE_BYTES);
  let spare = Buffer.allocUnsafeSlow(PIECE_BYTES);
  let filled = 0;
  let received = 0;
  for await (const chunk of blob) {
    received += chunk.length;
    onBytes(received);
    for (let at = 0; at < chunk.length; ) {
      const taken = chunk.copy(filling, filled, at);
      at += taken;
      filled += taken;
      if (filled < PIECE_BYTES) continue;
      yield filling;
      [filling, spare] = [spare, filling];
      filled = 0;
    }
  }
  if (filled > 0) yield filling.subarray(0, filled);
}
