// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { hasherOf } from "../digest.ts";
import type { PullLayer } from "../events.ts";
import { corrupt } from "../image-errors.ts";
import { type LayerBudgets, LayerFile, type WrittenLayer } from "./layer-file.ts";

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
  let received = 0;
  let failure: MicrovmError | undefined;
  for await (const chunk of blob) {
    hash.update(chunk);
    received += chunk.length;
    onBytes(received);
    if (failure) continue;
    try {
      await file.write(chunk);
    } catch (error) {
      if (!isVerdict(error)) throw error;
      failure = error;
    }
  }
  const actual = `${layer.digest.slice(0, layer.digest.indexOf(":"))}:${hash.digest("hex")}`;
  if (actual !== layer.digest) {
    throw corrupt(`digest mismatch: expected ${layer.digest}, got ${actual}`, failure);
  }
  if (failure) throw failure;
  return await file.finish();
}

/**
 * Whether the bytes were found wanting. Then the rest is still hashed: that the blob is not the one the manifest
 * names explains more than what the decompressor makes of it.
 */
function isVerdict(error: unknown): error is MicrovmError {
  return (
    error instanceof MicrovmError && (error.code === "IMAGE_CORRUPT" || error.code === "IMAGE_UNSUPPORTED")
  );
}
