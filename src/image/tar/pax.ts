// SPDX-License-Identifier: Apache-2.0
import { corrupt, overLimit, printable } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import type { ByteString } from "./entry.ts";
import { parseDecimal } from "./numeric.ts";

/** The records of a PAX extended header (POSIX.1-2001 pax, "x"), not yet interpreted. */
export interface PaxHeader {
  /** The last value of each keyword that is neither an xattr nor one of the repeated sparse keywords. */
  readonly records: ReadonlyMap<ByteString, ByteString>;
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** Values of `GNU.sparse.offset` and `GNU.sparse.numbytes` in order: format 0.0 repeats them. */
  readonly sparsePairs: readonly number[];
}

const SCHILY = "SCHILY.xattr.";
const LIBARCHIVE = "LIBARCHIVE.xattr.";
const TEXT_KEYWORDS = new Set(["path", "linkpath", "uname", "gname", "GNU.sparse.name"]);

const NEWLINE = 0x0a;
const SPACE = 0x20;
const EQUALS = 0x3d;

/** Parses the body of an "x" header: records of `length keyword=value\n`, where length counts itself. */
export function parsePax(body: Buffer, limits: ImageLimits): PaxHeader {
  const records = new Map<ByteString, ByteString>();
  const schily = new Map<ByteString, Uint8Array>();
  const libarchive = new Map<ByteString, Uint8Array>();
  const sparsePairs: number[] = [];

  let position = 0;
  while (position < body.length) {
    const space = body.indexOf(SPACE, position);
    // 20 digits are more than any length; looking no further keeps this linear.
    if (space <= position || space - position > 20) throw corrupt("malformed PAX record");
    const length = parseDecimal(body.toString("latin1", position, space), "PAX record length");
    const end = position + length;
    const equals = body.indexOf(EQUALS, space + 1);
    if (
      length < 5 ||
      end > body.length ||
      body[end - 1] !== NEWLINE ||
      equals <= space + 1 ||
      equals >= end
    ) {
      throw corrupt("malformed PAX record");
    }
    const keyword = body.toString("latin1", space + 1, equals);
    if (keyword.includes("\0")) throw corrupt("NUL in a PAX keyword");
    const value = body.subarray(equals + 1, end - 1);
    position = end;

    if (keyword.startsWith(SCHILY)) {
      // Copied, so that a small attribute doesn't keep the whole header in memory.
      schily.set(keyword.slice(SCHILY.length), Uint8Array.from(value));
    } else if (keyword.startsWith(LIBARCHIVE)) {
      libarchive.set(decodePercent(keyword.slice(LIBARCHIVE.length)), decodeBase64(value));
    } else if (keyword === "GNU.sparse.offset" || keyword === "GNU.sparse.numbytes") {
      addSparseNumber(sparsePairs, keyword, value.toString("latin1"), limits);
    } else {
      if (TEXT_KEYWORDS.has(keyword) && value.includes(0)) throw corrupt(`NUL in PAX ${keyword}`);
      records.set(keyword, value.toString("latin1"));
    }
  }
  return { records, xattrs: mergeXattrs(schily, libarchive, limits), sparsePairs };
}

/** A decimal record; undefined when there is none or it is empty, which leaves the header block's own. */
export function paxNumber(pax: PaxHeader | undefined, keyword: ByteString): number | undefined {
  const value = pax?.records.get(keyword);
  return value ? parseDecimal(value, `PAX ${keyword}`) : undefined;
}

function addSparseNumber(pairs: number[], keyword: string, value: string, limits: ImageLimits): void {
  const expectsOffset = pairs.length % 2 === 0;
  if (expectsOffset !== (keyword === "GNU.sparse.offset")) throw corrupt("malformed PAX sparse map");
  if (pairs.length >= 2 * limits.maxSparseSegments) throw overLimit("too many sparse segments");
  pairs.push(parseDecimal(value, keyword));
}

/** libarchive writes each attribute twice; its own spelling, which can carry any name, only adds what is missing. */
function mergeXattrs(
  schily: Map<ByteString, Uint8Array>,
  libarchive: ReadonlyMap<ByteString, Uint8Array>,
  limits: ImageLimits,
): ReadonlyMap<ByteString, Uint8Array> {
  for (const [name, value] of libarchive) if (!schily.has(name)) schily.set(name, value);
  let total = 0;
  for (const [name, value] of schily) {
    if (name === "" || name.includes("\0")) throw corrupt("malformed extended attribute name");
    if (name.length > limits.maxXattrNameBytes) {
      throw overLimit(`extended attribute name of ${name.length} bytes`);
    }
    if (value.length > limits.maxXattrValueBytes) {
      throw overLimit(`extended attribute ${printable(name)} of ${value.length} bytes`);
    }
    total += name.length + value.length;
  }
  if (total > limits.maxXattrBytesPerEntry) throw overLimit(`${total} bytes of extended attributes`);
  return schily;
}

function decodePercent(name: ByteString): ByteString {
  return name.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function decodeBase64(value: Buffer): Uint8Array {
  return Uint8Array.from(Buffer.from(value.toString("latin1"), "base64"));
}
