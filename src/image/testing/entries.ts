// SPDX-License-Identifier: Apache-2.0
import { NO_XATTRS, type TarEntry } from "../tar/entry.ts";
import type { Directory, Inode } from "../tree/inode.ts";
import { ImageTree } from "../tree/tree.ts";

/** Entries as a scanner would report them, for tests that need no bytes. */
export function entry(type: TarEntry["type"], path: string, fields: Partial<TarEntry> = {}): TarEntry {
  return {
    type,
    path,
    linkPath: "",
    mode: type === "directory" ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtimeSec: 1_600_000_000,
    mtimeNsec: 0,
    devMajor: 0,
    devMinor: 0,
    size: 0,
    dataOffset: 0,
    sparse: undefined,
    xattrs: NO_XATTRS,
    ...fields,
  };
}

export const file = (path: string, fields?: Partial<TarEntry>) => entry("file", path, fields);
export const dir = (path: string, fields?: Partial<TarEntry>) => entry("directory", path, fields);
export const symlink = (path: string, linkPath: string) => entry("symlink", path, { linkPath });
export const hardlink = (path: string, linkPath: string) => entry("hardlink", path, { linkPath });

export function merge(...layers: (readonly TarEntry[])[]): ImageTree {
  const tree = new ImageTree();
  for (const [index, entries] of layers.entries()) for (const each of entries) tree.apply(each, index);
  return tree;
}

/** Every path of a tree but the root's, `/`-separated, depth first. */
export function* walk(directory: Directory, path = ""): Generator<[path: string, inode: Inode]> {
  for (const [name, { inode }] of directory.children) {
    const child = path === "" ? name : `${path}/${name}`;
    yield [child, inode];
    if (inode.kind === "directory") yield* walk(inode, child);
  }
}

export function paths(tree: ImageTree): string[] {
  return [...walk(tree.root)].map(([path]) => path).sort();
}

export function find(tree: ImageTree, path: string): Inode | undefined {
  for (const [candidate, inode] of walk(tree.root)) if (candidate === path) return inode;
  return undefined;
}
