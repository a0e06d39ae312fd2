// SPDX-License-Identifier: Apache-2.0

const CASTAGNOLI_REVERSED = 0x82f63b78;

/** CRC-32C as the kernel's `crc32c(~0, …)`: all ones to start with, not inverted at the end. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ CASTAGNOLI_REVERSED;
    }
  }
  return crc >>> 0;
}
