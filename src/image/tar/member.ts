// SPDX-License-Identifier: Apache-2.0
import { corrupt, overLimit, printable, unsupported } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import { type ByteString, NO_XATTRS, type TarEntry, type TarEntryType } from "./entry.ts";
import type { Extensions } from "./extensions.ts";
import type { RawHeader } from "./header.ts";
import { parsePaxTime } from "./numeric.ts";
import { paxNumber } from "./pax.ts";

const NO_RECORDS: ReadonlyMap<ByteString, ByteString> = new Map();
/** -1 means "leave as it is" to chown(2) and is no valid id. */
const MAX_ID = 0xffff_fffe;
/** What Linux can encode in the 32 bits of a device number. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xfffff;

/** A member's entry with its extension headers applied; sizes and data are the scanner's to fill in. */
export function describeMember(header: RawHeader, extensions: Extensions, limits: ImageLimits): TarEntry {
  const records = extensions.pax?.records ?? NO_RECORDS;
  // An empty value means that the header block's own is right, as in Go's archive/tar.
  const text = (keyword: string) => records.get(keyword) || undefined;
  const number = (keyword: string, otherwise: number) => paxNumber(extensions.pax, keyword) ?? otherwise;

  const path = extensions.longName || text("GNU.sparse.name") || text("path") || header.path;
  const linkPath = extensions.longLink || text("linkpath") || header.linkPath;
  if (path.length > limits.maxPathBytes) throw overLimit(`path of ${path.length} bytes`);
  const type = entryType(header.typeflag, path);
  const isLink = type === "symlink" || type === "hardlink";
  const isDevice = type === "character-device" || type === "block-device";
  if (isLink && linkPath === "") throw corrupt(`${printable(path)} links to nothing`);
  if (isLink && linkPath.length > limits.maxLinkBytes) {
    throw overLimit(`link target of ${linkPath.length} bytes`);
  }

  const mtime = text("mtime");
  const time = mtime === undefined ? { sec: header.mtimeSec, nsec: 0 } : parsePaxTime(mtime, "PAX mtime");
  const devMajor = isDevice ? number("SCHILY.devmajor", header.devMajor) : 0;
  const devMinor = isDevice ? number("SCHILY.devminor", header.devMinor) : 0;
  if (devMajor < 0 || devMajor > MAX_MAJOR || devMinor < 0 || devMinor > MAX_MINOR) {
    throw unsupported(`${printable(path)}: device ${devMajor}:${devMinor}`);
  }
  const xattrs = extensions.pax?.xattrs;
  return {
    type,
    path,
    linkPath: isLink ? linkPath : "",
    mode: header.mode & 0o7777,
    uid: checkId(number("uid", header.uid), "uid"),
    gid: checkId(number("gid", header.gid), "gid"),
    mtimeSec: time.sec,
    mtimeNsec: time.nsec,
    devMajor,
    devMinor,
    size: 0,
    dataOffset: 0,
    sparse: undefined,
    xattrs: xattrs === undefined || xattrs.size === 0 ? NO_XATTRS : xattrs,
  };
}

function entryType(typeflag: number, path: ByteString): TarEntryType {
  switch (typeflag) {
    case 0x00:
      // Before POSIX, a directory was a file whose name ends in a slash.
      return path.endsWith("/") ? "directory" : "file";
    case 0x30: // "0"
    case 0x37: // "7": contiguous, which no system makes a difference of
    case 0x53: // "S": sparse, old GNU
      return "file";
    case 0x31:
      return "hardlink";
    case 0x32:
      return "symlink";
    case 0x33:
      return "character-device";
    case 0x34:
      return "block-device";
    case 0x35:
      return "directory";
    case 0x36:
      return "fifo";
    default:
      throw unsupported(`${printable(path)}: member type 0x${typeflag.toString(16).padStart(2, "0")}`);
  }
}

function checkId(id: number, field: string): number {
  if (id < 0 || id > MAX_ID) throw corrupt(`${field} ${id} is out of range`);
  return id;
}
