// SPDX-License-Identifier: Apache-2.0
import { corrupt } from "../image-errors.ts";

const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;

/**
 * A number field of a tar header: octal digits between spaces and NULs, or GNU's base-256 (top bit of the
 * first byte set), which may be negative.
 */
export function parseNumber(block: Buffer, start: number, length: number, field: string): number {
  const first = block[start] ?? 0;
  return (first & 0x80) === 0
    ? parseOctal(block, start, length, field)
    : parseBase256(block, start, length, field);
}

export function parseOctal(block: Buffer, start: number, length: number, field: string): number {
  let from = start;
  let to = start + length;
  while (from < to && isBlank(block[from])) from += 1;
  while (to > from && isBlank(block[to - 1])) to -= 1;
  let value = 0;
  for (let index = from; index < to; index += 1) {
    const byte = block[index] ?? 0;
    // A NUL ends the number, whatever follows it.
    if (byte === 0) break;
    if (byte < ZERO || byte > SEVEN) throw corrupt(`${field} is not an octal number`);
    value = value * 8 + (byte - ZERO);
  }
  return checkSafe(value, field);
}

function parseBase256(block: Buffer, start: number, length: number, field: string): number {
  // Two's complement, big endian; bit 7 of the first byte is the marker and bit 6 the sign.
  const negative = ((block[start] ?? 0) & 0x40) !== 0;
  const invert = negative ? 0xff : 0;
  let value = 0;
  for (let index = 0; index < length; index += 1) {
    let byte = (block[start + index] ?? 0) ^ invert;
    if (index === 0) byte &= 0x7f;
    value = value * 256 + byte;
    checkSafe(value, field);
  }
  return negative ? -value - 1 : value;
}

/** A decimal number of a PAX record, as strict as Go's ParseInt. */
export function parseDecimal(text: string, field: string): number {
  if (!/^[+-]?\d{1,20}$/.test(text)) throw corrupt(`${field} is not a decimal number`);
  return checkSafe(Number(text), field);
}

/** A PAX time, `[-]seconds[.fraction]`: the fraction is cut to nanoseconds and never negative. */
export function parsePaxTime(text: string, field: string): { sec: number; nsec: number } {
  const match = /^(-?)(\d{1,20})(?:\.(\d*))?$/.exec(text);
  if (match === null) throw corrupt(`${field} is not a time`);
  const sec = checkSafe(Number(match[2]), field);
  const nsec = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] === "") return { sec, nsec };
  return nsec === 0 ? { sec: 0 - sec, nsec: 0 } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === 0;
}

/** Offsets, sizes and times past 2^53 exist in no real image, and are not exact in a JavaScript number. */
function checkSafe(value: number, field: string): number {
  if (!Number.isSafeInteger(value)) throw corrupt(`${field} is out of range`);
  return value;
}
