// SPDX-License-Identifier: Apache-2.0

/** One member of an initramfs. */
export type CpioEntry =
  | { readonly type: "directory"; readonly path: string; readonly mode: number }
  | { readonly type: "file"; readonly path: string; readonly mode: number; readonly data: Uint8Array }
  | {
      readonly type: "character";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const fileTypes = { directory: 0o040000, file: 0o100000, character: 0o020000 } as const;
const encoder = new TextEncoder();

/**
 * An archive in the "newc" format, everything owned by root and dated 1970.
 *
 * Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [index, entry] of entries.entries()) {
    const data = entry.type === "file" ? entry.data : new Uint8Array();
    const device = entry.type === "character" ? [entry.major, entry.minor] : [0, 0];
    const links = entry.type === "directory" ? 2 : 1;
    const mode = fileTypes[entry.type] | entry.mode;
    parts.push(...member(entry.path, data, { inode: index + 1, mode, links, device }));
  }
  parts.push(...member("TRAILER!!!", new Uint8Array(), { inode: 0, mode: 0, links: 1, device: [0, 0] }));
  return Buffer.concat(parts);
}

interface Fields {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly device: readonly number[];
}

function member(path: string, data: Uint8Array, { inode, mode, links, device }: Fields): Uint8Array[] {
  const name = encoder.encode(`${path}\0`);
  const [major = 0, minor = 0] = device;
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const numbers = [inode, mode, 0, 0, links, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = encoder.encode(`070701${numbers.map((n) => n.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
