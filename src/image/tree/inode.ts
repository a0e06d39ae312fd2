// SPDX-License-Identifier: Apache-2.0
import { type ByteString, NO_XATTRS, type SparseSegment } from "../tar/entry.ts";

/** What every inode has, whatever its type. */
export interface Metadata {
  /** Permission, setuid, setgid and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  readonly xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

/*
 * Every inode has an `id`: small numbers, given in the order of creation, none twice in a tree. Inodes that were
 * replaced or hidden leave gaps.
 */

export interface FileInode {
  readonly kind: "file";
  readonly id: number;
  readonly metadata: Metadata;
  readonly size: number;
  /** Index of the layer whose tar holds the contents, and where in it. */
  readonly layer: number;
  readonly dataOffset: number;
  readonly sparse: readonly SparseSegment[] | undefined;
}

export interface SymlinkInode {
  readonly kind: "symlink";
  readonly id: number;
  readonly metadata: Metadata;
  readonly target: ByteString;
}

export interface SpecialInode {
  readonly kind: "character-device" | "block-device" | "fifo";
  readonly id: number;
  readonly metadata: Metadata;
  readonly devMajor: number;
  readonly devMinor: number;
}

export interface Directory {
  readonly kind: "directory";
  readonly id: number;
  metadata: Metadata;
  /** Undefined for the root. */
  readonly parent: Directory | undefined;
  /** Directories above this one. */
  readonly depth: number;
  readonly children: Map<ByteString, Dentry>;
  /** The last layer that made this directory or anything under it. */
  layer: number;
  /** The layer whose entry gave this directory its metadata; -1 when none did. */
  metadataLayer: number;
  /** The last layer whose whiteouts have hidden all that lower layers have in and under this directory. */
  clearedLayer: number;
}

export type Inode = FileInode | SymlinkInode | SpecialInode | Directory;

/** A name in a directory. Several can share an inode: hard links. */
export interface Dentry {
  readonly inode: Inode;
  /** The layer that made this name (which may link to an inode of a lower one). */
  readonly layer: number;
}

/** For directories that no layer describes: `0755 root:root` of 1970, so that the same layers give the same bytes. */
export const IMPLICIT_METADATA: Metadata = {
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  xattrs: NO_XATTRS,
};

/** A directory that no entry describes yet; `parent` is undefined for the root. */
export function createDirectory(id: number, parent: Directory | undefined, layer: number): Directory {
  return {
    kind: "directory",
    id,
    metadata: IMPLICIT_METADATA,
    parent,
    depth: parent === undefined ? 0 : parent.depth + 1,
    children: new Map(),
    layer,
    metadataLayer: -1,
    clearedLayer: -1,
  };
}
