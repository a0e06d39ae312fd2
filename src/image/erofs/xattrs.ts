// SPDX-License-Identifier: Apache-2.0
import { overLimit, printable } from "../image-errors.ts";
import type { ByteString } from "../tar/entry.ts";
import { alignUp } from "./format.ts";

const HEADER_SIZE = 12;
const ENTRY_SIZE = 4;
/** `i_xattr_icount` is 16 bits wide and counts the header as one. */
const MAX_UNITS = 0xffff;

const PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
];
/** Stored by index alone. */
const WHOLE_NAMES: ReadonlyMap<ByteString, number> = new Map([
  ["system.posix_acl_access", 2],
  ["system.posix_acl_default", 3],
]);

/** Means something only on the host where the layer was made. */
const HOST_SPECIFIC = "security.selinux";
const OVERLAY = "trusted.overlay.";

const NOTHING = Buffer.alloc(0);

/**
 * The xattr area that follows an inode; empty when there is nothing to store.
 *
 * Attributes in namespaces that Linux filesystems do not store (`com.apple.…`, `system.nfs4_acl`, …) are
 * dropped, as every runtime does. `trusted.overlay.…` is escaped, which overlayfs undoes (Linux 6.7 and later):
 * an image must not steer the overlay that it becomes a layer of.
 *
 * @throws MicrovmError IMAGE_LIMIT
 */
export function encodeXattrs(xattrs: ReadonlyMap<ByteString, Uint8Array>): Buffer {
  if (xattrs.size === 0) return NOTHING;
  const stored = [...xattrs]
    .map(([name, value]) => storedForm(name, value))
    .filter((xattr) => xattr !== undefined)
    .sort((a, b) => a.index - b.index || (a.suffix < b.suffix ? -1 : 1));
  if (stored.length === 0) return NOTHING;

  let size = HEADER_SIZE;
  for (const { suffix, value } of stored) size += alignUp(ENTRY_SIZE + suffix.length + value.length, 4);
  if ((size - HEADER_SIZE) / 4 + 1 > MAX_UNITS) throw overLimit(`${size} bytes of extended attributes`);

  const area = Buffer.alloc(size);
  let at = HEADER_SIZE;
  for (const { index, suffix, value } of stored) {
    area.writeUInt8(suffix.length, at);
    area.writeUInt8(index, at + 1);
    area.writeUInt16LE(value.length, at + 2);
    area.write(suffix, at + ENTRY_SIZE, "latin1");
    area.set(value, at + ENTRY_SIZE + suffix.length);
    at += alignUp(ENTRY_SIZE + suffix.length + value.length, 4);
  }
  return area;
}

/** `i_xattr_icount` of an inode with this area. */
export function xattrCount(area: Buffer): number {
  return area.length === 0 ? 0 : (area.length - HEADER_SIZE) / 4 + 1;
}

interface StoredXattr {
  readonly index: number;
  readonly suffix: ByteString;
  readonly value: Uint8Array;
}

function storedForm(name: ByteString, value: Uint8Array): StoredXattr | undefined {
  if (name === HOST_SPECIFIC) return undefined;
  const whole = WHOLE_NAMES.get(name);
  if (whole !== undefined) return { index: whole, suffix: "", value };
  const escaped = name.startsWith(OVERLAY) ? `${OVERLAY}overlay.${name.slice(OVERLAY.length)}` : name;
  for (const [prefix, index] of PREFIXES) {
    if (!escaped.startsWith(prefix) || escaped.length === prefix.length) continue;
    if (escaped.length > 255) throw overLimit(`extended attribute name ${printable(name)} is too long`);
    return { index, suffix: escaped.slice(prefix.length), value };
  }
  return undefined;
}
