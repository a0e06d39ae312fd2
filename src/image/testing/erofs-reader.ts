// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { ByteString } from "../tar/entry.ts";

/** One file as someone who looks at the mounted image would see it. */
export interface SeenFile {
  readonly nid: number;
  readonly type: "file" | "directory" | "symlink" | "character-device" | "block-device" | "fifo";
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly links: number;
  /** `major:minor` of devices. */
  readonly device: string;
  readonly target: ByteString;
  readonly xattrs: ReadonlyMap<ByteString, ByteString>;
  /** Of a file's contents. */
  readonly sha256: string;
}

interface RawInode extends Omit<SeenFile, "device" | "target" | "sha256"> {
  readonly layout: number;
  /** `i_u`. */
  readonly where: number;
  readonly offset: number;
  /** Offset of what follows the xattrs. */
  readonly tail: number;
}

const TYPES = new Map<number, SeenFile["type"]>([
  [0o010000, "fifo"],
  [0o020000, "character-device"],
  [0o040000, "directory"],
  [0o060000, "block-device"],
  [0o100000, "file"],
  [0o120000, "symlink"],
]);
const DIRENT_TYPES = [
  "?",
  "file",
  "directory",
  "character-device",
  "block-device",
  "fifo",
  "socket",
  "symlink",
];
const XATTR_PREFIXES = new Map([
  [1, "user."],
  [2, "system.posix_acl_access"],
  [3, "system.posix_acl_default"],
  [4, "trusted."],
  [6, "security."],
]);

/**
 * Reads an image that `writeErofs` wrote, the way the kernel does in flat-device mode: every block address counts
 * from the start of the image, and the layers' tars follow it. Asserts what the kernel takes for granted.
 *
 * Written from the on-disk format alone, without a line of the writer: for tests only.
 */
export class ErofsReader {
  readonly #files: { readonly fd: number; readonly size: number }[];
  readonly #blockBits: number;
  readonly #rootNid: number;
  readonly inodes: number;
  readonly blocks: number;

  constructor(imagePath: string, tarPaths: readonly string[] = []) {
    this.#files = [imagePath, ...tarPaths].map((path) => {
      const fd = openSync(path, "r");
      return { fd, size: fstatSync(fd).size };
    });
    const superblock = this.#read(1024, 128);
    assert.equal(superblock.readUInt32LE(0), 0xe0f5e1e2, "magic");
    this.#blockBits = superblock.readUInt8(12);
    this.#rootNid = superblock.readUInt16LE(14);
    this.inodes = Number(superblock.readBigUInt64LE(16));
    this.blocks = superblock.readUInt32LE(36);
    assert.equal(this.blocks * this.#block, this.#files[0]?.size, "size of the image");
    assert.equal(superblock.readUInt32LE(80) & ~0xc, 0, "only known incompatible features");
    assert.equal(superblock.readUInt8(90), 0, "dirblkbits");
    this.#checkDevices(superblock);
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#files) closeSync(fd);
  }

  /** Every path, `/` the root. */
  readAll(): Map<ByteString, SeenFile> {
    const seen = new Map<ByteString, SeenFile>();
    this.#walk("", this.#rootNid, this.#rootNid, seen);
    const links = new Map<number, number>();
    for (const { nid, type } of seen.values()) {
      if (type !== "directory") links.set(nid, (links.get(nid) ?? 0) + 1);
    }
    for (const [path, { nid, links: claimed }] of seen) {
      assert.equal(claimed, links.get(nid) ?? claimed, `${path}: link count`);
    }
    assert.equal(new Set([...seen.values()].map(({ nid }) => nid)).size, this.inodes, "inode count");
    return seen;
  }

  /** Contents of a file. */
  readFile({ nid }: Pick<SeenFile, "nid">): Buffer {
    return this.#contents(this.#inode(nid));
  }

  get #block(): number {
    return 1 << this.#blockBits;
  }

  #walk(path: ByteString, nid: number, parentNid: number, seen: Map<ByteString, SeenFile>): void {
    const inode = this.#inode(nid);
    seen.set(path === "" ? "/" : path, this.#describe(inode));
    if (inode.type !== "directory") return;
    const dirents = this.#dirents(this.#contents(inode));
    const names = dirents.map(({ name }) => name);
    assert.deepEqual(names, [...new Set(names)].sort(), `${path}/: sorted names`);
    let subdirectories = 0;
    for (const { name, nid: child, type } of dirents) {
      if (name === ".") assert.equal(child, nid, `${path}/.`);
      else if (name === "..") assert.equal(child, parentNid, `${path}/..`);
      else {
        assert.ok(name !== "" && !name.includes("/") && name.length <= 255, `${path}/: name`);
        assert.equal(type, this.#inode(child).type, `${path}/${name}: type in the directory`);
        if (type === "directory") subdirectories += 1;
        this.#walk(`${path}/${name}`, child, nid, seen);
      }
    }
    assert.ok(names.includes(".") && names.includes(".."), `${path}/: dots`);
    assert.equal(inode.links, 2 + subdirectories, `${path}/: link count`);
  }

  #dirents(contents: Buffer): { name: ByteString; nid: number; type: string }[] {
    const result = [];
    for (let start = 0; start < contents.length; start += this.#block) {
      const block = contents.subarray(start, start + this.#block);
      const count = block.readUInt16LE(8) / 12;
      assert.ok(Number.isInteger(count) && count > 0, "first name offset");
      for (let index = 0; index < count; index += 1) {
        const from = block.readUInt16LE(index * 12 + 8);
        const to = index + 1 < count ? block.readUInt16LE((index + 1) * 12 + 8) : block.length;
        const name = block.toString("latin1", from, to).replace(/\0+$/, "");
        const nid = Number(block.readBigUInt64LE(index * 12));
        result.push({ name, nid, type: DIRENT_TYPES[block.readUInt8(index * 12 + 10)] ?? "?" });
      }
    }
    return result;
  }

  #inode(nid: number): RawInode {
    const offset = nid * 32;
    const raw = this.#read(offset, 64);
    const format = raw.readUInt16LE(0);
    assert.equal(format & 1, 1, "extended inode");
    const mode = raw.readUInt16LE(4);
    const type = TYPES.get(mode & 0o170000);
    assert.ok(type !== undefined, `file type of mode ${mode.toString(8)}`);
    const xattrUnits = raw.readUInt16LE(2);
    const xattrSize = xattrUnits === 0 ? 0 : 12 + 4 * (xattrUnits - 1);
    return {
      nid,
      type,
      mode: mode & 0o7777,
      layout: format >> 1,
      size: Number(raw.readBigUInt64LE(8)),
      where: raw.readUInt32LE(16),
      uid: raw.readUInt32LE(24),
      gid: raw.readUInt32LE(28),
      mtimeSec: Number(raw.readBigInt64LE(32)),
      mtimeNsec: raw.readUInt32LE(40),
      links: raw.readUInt32LE(44),
      xattrs: this.#xattrs(offset + 64, xattrSize),
      tail: offset + 64 + xattrSize,
      offset,
    };
  }

  #xattrs(offset: number, size: number): Map<ByteString, ByteString> {
    const xattrs = new Map<ByteString, ByteString>();
    const area = size === 0 ? Buffer.alloc(0) : this.#read(offset, size);
    for (let at = 12; at < size; ) {
      const nameLength = area.readUInt8(at);
      const prefix = XATTR_PREFIXES.get(area.readUInt8(at + 1));
      const valueLength = area.readUInt16LE(at + 2);
      const nameEnd = at + 4 + nameLength;
      assert.ok(prefix !== undefined && nameEnd + valueLength <= size, "xattr entry");
      const name = prefix + area.toString("latin1", at + 4, nameEnd);
      xattrs.set(name, area.toString("latin1", nameEnd, nameEnd + valueLength));
      at = Math.ceil((nameEnd + valueLength) / 4) * 4;
    }
    return xattrs;
  }

  #describe(inode: RawInode): SeenFile {
    const { nid, type, mode, uid, gid, mtimeSec, mtimeNsec, links, xattrs, where } = inode;
    const isDevice = type === "character-device" || type === "block-device";
    const device = isDevice ? `${(where >> 8) & 0xfff}:${(where & 0xff) | ((where >>> 12) & ~0xff)}` : "";
    const contents = type === "file" || type === "symlink" ? this.#contents(inode) : Buffer.alloc(0);
    return {
      nid,
      type,
      mode,
      uid,
      gid,
      size: type === "directory" ? 0 : inode.size,
      mtimeSec,
      mtimeNsec,
      links,
      device,
      xattrs,
      target: type === "symlink" ? contents.toString("latin1") : "",
      sha256: type === "file" ? createHash("sha256").update(contents).digest("hex") : "",
    };
  }

  #contents(inode: RawInode): Buffer {
    const { layout, size, where, tail } = inode;
    if (layout === 0) return this.#read(where * this.#block, size);
    if (layout === 4) return this.#chunks(inode);
    assert.equal(layout, 2, "data layout");
    const inlineSize = size % this.#block || (size > 0 ? this.#block : 0);
    const full = size - inlineSize;
    assert.ok((tail % this.#block) + inlineSize <= this.#block, "inline data within a block");
    if (inode.type === "symlink") {
      assert.equal(Math.floor(inode.offset / this.#block), Math.floor((tail + size - 1) / this.#block));
    }
    return Buffer.concat([this.#read(where * this.#block, full), this.#read(tail, inlineSize)]);
  }

  #chunks({ size, where, tail }: { size: number; where: number; tail: number }): Buffer {
    assert.equal(where & ~0x1f, 0, "chunk format");
    const chunk = this.#block * 2 ** (where & 0x1f);
    const contents = Buffer.alloc(size);
    for (let index = 0; index * chunk < size; index += 1) {
      const address = this.#read(tail + index * 4, 4).readUInt32LE(0);
      if (address === 0xffffffff) continue;
      const length = Math.min(chunk, size - index * chunk);
      this.#read(address * this.#block, length).copy(contents, index * chunk);
    }
    return contents;
  }

  #checkDevices(superblock: Buffer): void {
    const count = superblock.readUInt16LE(86);
    assert.equal(count, this.#files.length - 1, "a device slot for each layer");
    let next = this.blocks;
    for (let index = 0; index < count; index += 1) {
      const slot = this.#read((superblock.readUInt16LE(88) + index) * 128, 128);
      assert.equal(slot.readUInt32LE(68), next, "first block of a device");
      assert.equal(slot.readUInt32LE(64) * this.#block, this.#files[index + 1]?.size, "size of a device");
      next += slot.readUInt32LE(64);
    }
  }

  /** Bytes of the one disk that image and tars make. */
  #read(offset: number, length: number): Buffer {
    const out = Buffer.alloc(length);
    let start = 0;
    for (const { fd, size } of this.#files) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + size);
      if (from < to) assert.equal(readSync(fd, out, from - offset, to - from, from - start), to - from);
      start += size;
    }
    assert.ok(offset + length <= start, "read past the end of the disk");
    return out;
  }
}
