// SPDX-License-Identifier: Apache-2.0
import { corrupt, printable } from "../image-errors.ts";
import type { ByteString } from "../tar/entry.ts";
import { type Dentry, type Directory, IMPLICIT_METADATA } from "./inode.ts";

const PREFIX = ".wh.";
const OPAQUE = ".wh..wh..opq";
const AUFS_PREFIX = ".wh..wh.";

export type Whiteout = { readonly kind: "opaque" } | { readonly kind: "name"; readonly name: ByteString };

/**
 * What a path's components mean to whiteouts (OCI image-spec, layer.md, "Whiteouts").
 *
 * @returns the whiteout that the last component is; "aufs" for bookkeeping of the AUFS storage driver that old
 *   layers carry and every runtime ignores; undefined for an ordinary path
 */
export function parseWhiteout(components: readonly ByteString[]): Whiteout | "aufs" | undefined {
  const last = components.length - 1;
  for (const [index, component] of components.entries()) {
    if (!component.startsWith(PREFIX)) continue;
    if (component.startsWith(AUFS_PREFIX) && component !== OPAQUE) return "aufs";
    if (index < last) throw corrupt(`${printable(component)} is a whiteout and a directory`);
    if (component === OPAQUE) return { kind: "opaque" };
    const name = component.slice(PREFIX.length);
    if (name === "" || name === "." || name === "..") {
      throw corrupt(`${printable(component)} is a whiteout of no file`);
    }
    return { kind: "name", name };
  }
  return undefined;
}

/** Hides from `directory` what lower layers have put there, and nothing that `layer` itself has. */
export function applyWhiteout(directory: Directory, whiteout: Whiteout, layer: number): void {
  if (whiteout.kind === "opaque") {
    hideLowerChildren(directory, layer);
    return;
  }
  const dentry = directory.children.get(whiteout.name);
  if (dentry !== undefined) hide(directory, whiteout.name, dentry, layer);
}

function hideLowerChildren(top: Directory, layer: number): void {
  const directories = [top];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    // All that a layer adds after is its own, so once is enough; and each time would take a hostile layer's square.
    if (directory.clearedLayer === layer) continue;
    directory.clearedLayer = layer;
    for (const [name, dentry] of directory.children) {
      const kept = hideShallow(directory, name, dentry, layer);
      if (kept !== undefined) directories.push(kept);
    }
  }
}

function hide(directory: Directory, name: ByteString, dentry: Dentry, layer: number): void {
  const kept = hideShallow(directory, name, dentry, layer);
  if (kept !== undefined) hideLowerChildren(kept, layer);
}

/** Hides one name unless `layer` made it; a directory that stays is returned, for its children to be hidden. */
function hideShallow(
  directory: Directory,
  name: ByteString,
  { inode, layer: madeBy }: Dentry,
  layer: number,
): Directory | undefined {
  const own = inode.kind === "directory" ? inode.layer === layer : madeBy === layer;
  if (!own) directory.children.delete(name);
  if (!own || inode.kind !== "directory") return undefined;
  // The lower directory is gone; what stands here is a new one, which the layer implied by what is in it.
  if (inode.metadataLayer !== layer) inode.metadata = IMPLICIT_METADATA;
  return inode;
}
