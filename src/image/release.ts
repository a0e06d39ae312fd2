// SPDX-License-Identifier: Apache-2.0

/**
 * Returns the memory of a buffer at once, for streams of short-lived big chunks: left to the garbage collector, they
 * would pile up to tens of megabytes between collections.
 *
 * Only a chunk that reaches the end of its memory is released, since whoever cuts buffers into chunks from front to
 * back is done with the others by then. Node's shared pool is never touched: none of its slices is all of it.
 *
 * @param chunk owned by the caller, who must not use it again
 */
export function release(chunk: Buffer): void {
  const { buffer, byteOffset, length } = chunk;
  if (!(buffer instanceof ArrayBuffer) || byteOffset + length !== buffer.byteLength) return;
  if (byteOffset === 0 || buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}
