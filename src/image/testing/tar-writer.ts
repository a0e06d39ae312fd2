// SPDX-License-Identifier: Apache-2.0
import type { ByteString } from "../tar/entry.ts";

const BLOCK = 512;

/** A tar member to write, right or wrong: tests say what they want and nothing is checked. */
export interface Member {
  /** Type flag: "0" file (the default), "1" hard link, "2" symlink, "3" and "4" devices, "5" directory, "6" fifo, … */
  readonly type?: string;
  readonly path: ByteString;
  readonly linkPath?: ByteString;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly data?: Uint8Array | string;
  /** The size field, when it is not the length of `data`. */
  readonly size?: number;
  /** Header format: "ustar" (the default), "gnu", "v7". */
  readonly format?: "ustar" | "gnu" | "v7";
  /** The ustar prefix field. */
  readonly prefix?: ByteString;
  /** A PAX header in front of the member: pairs, since keywords may repeat. */
  readonly pax?: readonly (readonly [keyword: ByteString, value: ByteString])[];
  /** Extended attributes, as `SCHILY.xattr.` records. */
  readonly xattrs?: Readonly<Record<ByteString, ByteString>>;
  /** Number fields in base-256 even where octal would do. */
  readonly base256?: boolean;
  /** A last change to the header block, before its checksum is computed. */
  readonly tweak?: (header: Buffer) => void;
}

/** A whole archive: the members, then `endBlocks` blocks of zeros. */
export function tar(members: readonly Member[], endBlocks = 2): Buffer {
  return Buffer.concat([...members.map(member), Buffer.alloc(endBlocks * BLOCK)]);
}

/** A member: extension headers, header, contents, padding. */
export function member(fields: Member): Buffer {
  const records = [
    ...(fields.pax ?? []),
    ...Object.entries(fields.xattrs ?? {}).map(([name, value]) => [`SCHILY.xattr.${name}`, value] as const),
  ];
  const extension = records.length === 0 ? Buffer.alloc(0) : paxHeader(records);
  return Buffer.concat([extension, header(fields), padded(bytes(fields.data ?? ""))]);
}

/** A PAX header: "x" for the next member, "g" for all that follow. */
export function paxHeader(records: readonly (readonly [ByteString, ByteString])[], type = "x"): Buffer {
  const data = Buffer.concat(records.map(([keyword, value]) => paxRecord(keyword, value)));
  return rawMember({ type, path: "PaxHeaders/0", data });
}

/** GNU's way to give the next member a long name ("L") or link target ("K"). */
export function gnuLong(type: "L" | "K", text: ByteString): Buffer {
  return rawMember({ type, path: "././@LongLink", format: "gnu", data: Buffer.from(`${text}\0`, "latin1") });
}

export function paxRecord(keyword: ByteString, value: ByteString): Buffer {
  const rest = ` ${keyword}=${value}\n`;
  let length = rest.length;
  // The length counts its own digits.
  while (length !== String(length).length + rest.length) length = String(length).length + rest.length;
  return Buffer.from(`${length}${rest}`, "latin1");
}

export function rawMember(fields: Member): Buffer {
  return Buffer.concat([header(fields), padded(bytes(fields.data ?? ""))]);
}

export function header(fields: Member): Buffer {
  const { type = "0", format = "ustar", base256 = false } = fields;
  const block = Buffer.alloc(BLOCK);
  block.write(fields.path, 0, 100, "latin1");
  const number = (value: number, at: number, length: number) =>
    writeNumber(block, value, at, length, base256);
  number(fields.mode ?? (type === "5" ? 0o755 : 0o644), 100, 8);
  number(fields.uid ?? 0, 108, 8);
  number(fields.gid ?? 0, 116, 8);
  number(fields.size ?? bytes(fields.data ?? "").length, 124, 12);
  number(fields.mtime ?? 1_600_000_000, 136, 12);
  block.write(type, 156, 1, "latin1");
  block.write(fields.linkPath ?? "", 157, 100, "latin1");
  if (format === "ustar") block.write("ustar\x0000", 257, "latin1");
  if (format === "gnu") block.write("ustar  \0", 257, "latin1");
  if (format !== "v7") {
    number(fields.devMajor ?? 0, 329, 8);
    number(fields.devMinor ?? 0, 337, 8);
    block.write(fields.prefix ?? "", 345, 155, "latin1");
  }
  fields.tweak?.(block);
  writeChecksum(block);
  return block;
}

export function writeChecksum(block: Buffer, signed = false): void {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (let at = 0; at < BLOCK; at += 1) sum += signed ? block.readInt8(at) : block.readUInt8(at);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

/** An octal field when the number fits one, else GNU's base-256. */
export function writeNumber(block: Buffer, value: number, at: number, length: number, base256 = false): void {
  if (!base256 && value >= 0 && value < 8 ** (length - 1)) {
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
    return;
  }
  let rest = BigInt(value);
  for (let index = at + length - 1; index >= at; index -= 1) {
    block.writeUInt8(Number(rest & 0xffn), index);
    rest >>= 8n;
  }
  block.writeUInt8(block.readUInt8(at) | 0x80, at);
}

function bytes(data: Uint8Array | string): Uint8Array {
  return typeof data === "string" ? Buffer.from(data, "latin1") : data;
}

function padded(data: Uint8Array): Buffer {
  return Buffer.concat([data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)]);
}
