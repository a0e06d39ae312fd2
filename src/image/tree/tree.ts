// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { corrupt, overLimit, printable } from "../image-errors.ts";
import { IMAGE_LIMITS, type ImageLimits } from "../limits.ts";
import type { ByteString, TarEntry } from "../tar/entry.ts";
import { createDirectory, type Dentry, type Directory, type Inode, type Metadata } from "./inode.ts";
import { cleanPath, PathResolver } from "./path.ts";
import { applyWhiteout, parseWhiteout } from "./whiteout.ts";

/**
 * The files of an image: its layers applied one over the other by the rules of the OCI image-spec (layer.md,
 * "Applying Changesets"). Where the specification is silent, does what `umoci unpack` does as root;
 * docs/IMAGES.md lists the differences.
 */
export class ImageTree {
  readonly root: Directory = createDirectory(0, undefined, -1);
  readonly #limits: ImageLimits;
  readonly #resolver: PathResolver;
  #lastId = 0;

  constructor(limits: ImageLimits = IMAGE_LIMITS) {
    this.#limits = limits;
    this.#resolver = new PathResolver(this.root, limits);
  }

  /**
   * Applies one entry of a layer. Entries come in the order of the archive, of two for one path the last wins;
   * layers come from the lowest to the highest.
   *
   * @throws MicrovmError IMAGE_CORRUPT, IMAGE_LIMIT
   */
  apply(entry: TarEntry, layer: number): void {
    try {
      this.#apply(entry, layer);
    } catch (error) {
      throw error instanceof MicrovmError ? error.within(printable(entry.path)) : error;
    }
  }

  #apply(entry: TarEntry, layer: number): void {
    const components = cleanPath(entry.path);
    const whiteout = parseWhiteout(components);
    if (whiteout === "aufs") return;

    const name = components.pop();
    if (name === undefined) {
      if (entry.type !== "directory") throw corrupt("the root is not a directory");
      describe(this.root, entry, layer);
      return;
    }
    const { directory, missing } = this.#resolver.directory(components);
    if (whiteout !== undefined) {
      if (missing.length === 0) applyWhiteout(directory, whiteout, layer);
      return;
    }
    claim(directory, layer);
    let parent = directory;
    for (const missingName of missing) parent = this.#makeDirectory(parent, missingName, layer);
    this.#add(parent, name, entry, layer);
  }

  #add(parent: Directory, name: ByteString, entry: TarEntry, layer: number): void {
    if (entry.type === "directory") {
      const present = parent.children.get(name)?.inode;
      const directory = present?.kind === "directory" ? present : this.#makeDirectory(parent, name, layer);
      describe(directory, entry, layer);
      claim(directory, layer);
      return;
    }
    const inode =
      entry.type === "hardlink" ? this.#linkTarget(entry.linkPath) : createInode(this.#newId(), entry, layer);
    this.#setChild(parent, name, { inode, layer });
  }

  #linkTarget(path: ByteString): Inode {
    const inode = this.#resolver.inode(path);
    if (inode === undefined) throw corrupt(`hard link to ${printable(path)}, which does not exist`);
    if (inode.kind === "directory") throw corrupt(`hard link to ${printable(path)}, a directory`);
    return inode;
  }

  /** A new directory in place of whatever has the name. */
  #makeDirectory(parent: Directory, name: ByteString, layer: number): Directory {
    const inode = createDirectory(this.#newId(), parent, layer);
    if (inode.depth > this.#limits.maxDepth) {
      throw overLimit(`more than ${this.#limits.maxDepth} directories deep`);
    }
    this.#setChild(parent, name, { inode, layer });
    return inode;
  }

  #newId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  #setChild(parent: Directory, name: ByteString, dentry: Dentry): void {
    if (name.length > this.#limits.maxNameBytes) throw overLimit(`file name of ${name.length} bytes`);
    parent.children.set(name, dentry);
  }
}

/** Notes that `layer` has something in `directory`, and so in all directories above it. */
function claim(directory: Directory, layer: number): void {
  for (let at: Directory | undefined = directory; at !== undefined && at.layer !== layer; at = at.parent) {
    at.layer = layer;
  }
}

function describe(directory: Directory, entry: TarEntry, layer: number): void {
  directory.metadata = metadataOf(entry);
  directory.metadataLayer = layer;
}

function createInode(id: number, entry: TarEntry, layer: number): Inode {
  const metadata = metadataOf(entry);
  switch (entry.type) {
    case "file": {
      const { size, dataOffset, sparse } = entry;
      return { kind: "file", id, metadata, size, layer, dataOffset, sparse };
    }
    case "symlink":
      return { kind: "symlink", id, metadata, target: entry.linkPath };
    case "character-device":
    case "block-device":
    case "fifo": {
      const { devMajor, devMinor } = entry;
      return { kind: entry.type, id, metadata, devMajor, devMinor };
    }
    default:
      throw new MicrovmError("INTERNAL", `no inode for a ${entry.type}`, { stage: "image" });
  }
}

function metadataOf({ mode, uid, gid, mtimeSec, mtimeNsec, xattrs }: TarEntry): Metadata {
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}
