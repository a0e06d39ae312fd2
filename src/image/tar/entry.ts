// SPDX-License-Identifier: Apache-2.0

/**
 * Bytes held in a string, one character per byte (Node's `latin1`): path names and xattr names need not be
 * UTF-8, and must come out of the image with the very bytes they went in with.
 *
 * Compared with `<` they sort as bytes do. Only what is shown to a person is decoded: see `printable`.
 */
export type ByteString = string;

export type TarEntryType =
  | "file"
  | "directory"
  | "symlink"
  | "hardlink"
  | "character-device"
  | "block-device"
  | "fifo";

/** A run of a sparse file's bytes that the archive stores; everything between runs reads as zeros. */
export interface SparseSegment {
  /** Where the run starts in the file. */
  readonly offset: number;
  /** Where its bytes start in the tar. */
  readonly dataOffset: number;
  readonly length: number;
}

/** One member of a tar, with every extension header already applied. File contents stay where they are. */
export interface TarEntry {
  readonly type: TarEntryType;
  /** As archived: may be absolute, hold `..`, end in `/`. At most `maxPathBytes` long, never contains NUL. */
  readonly path: ByteString;
  /** Target of a symlink or hard link; empty for all others. */
  readonly linkPath: ByteString;
  /** Permission, setuid, setgid and sticky bits: `0o7777` at most. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, negative before. */
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Bytes of the file as a reader sees it; 0 for everything but files. */
  readonly size: number;
  /** Where the file's bytes start in the tar: always a multiple of 512. */
  readonly dataOffset: number;
  /** Only for files archived as sparse: what is stored, sorted, without overlaps. */
  readonly sparse: readonly SparseSegment[] | undefined;
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

/** What entries without extended attributes share. */
export const NO_XATTRS: ReadonlyMap<ByteString, Uint8Array> = new Map();

/** About how much memory an entry keeps beyond a fixed amount. */
export function retainedBytes({ path, linkPath, sparse, xattrs }: TarEntry): number {
  let bytes = path.length + linkPath.length + 24 * (sparse?.length ?? 0);
  for (const [name, value] of xattrs) bytes += name.length + value.length;
  return bytes;
}
