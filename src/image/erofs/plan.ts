// SPDX-License-Identifier: Apache-2.0
import { overLimit } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import { Pauser } from "../pause.ts";
import type { ByteString } from "../tar/entry.ts";
import type { Directory, FileInode, Inode } from "../tree/inode.ts";
import { addedBytes, type ChunkPlan, planChunks, tableBytes } from "./chunks.ts";
import { type DirentLayout, layoutDirents } from "./dirents.ts";
import { alignUp, BLOCK, INODE_SIZE, NID_UNIT } from "./format.ts";
import { encodeXattrs } from "./xattrs.ts";

/** Where an inode goes in the image, and what it takes with it. */
export interface Placement {
  readonly inode: Inode;
  /** Of the inode, in bytes; its number is this in units of 32. */
  readonly offset: number;
  readonly xattrs: Buffer;
  readonly contents: Contents;
  links: number;
}

export type Contents =
  /** Nothing, or only what the inode itself says: devices, fifos, empty files. */
  | { readonly kind: "none" }
  /** One run of blocks in the layer's tar. */
  | { readonly kind: "layer"; readonly file: FileInode }
  | {
      readonly kind: "chunks";
      readonly file: FileInode;
      readonly plan: ChunkPlan;
      readonly dataBlock: number;
    }
  | {
      readonly kind: "symlink";
      readonly target: ByteString;
      readonly inline: boolean;
      readonly dataBlock: number;
    }
  | {
      readonly kind: "directory";
      readonly directory: Directory;
      readonly dirents: DirentLayout;
      readonly inline: boolean;
      readonly dataBlock: number;
    };

/** The layout of an image. `dataBlock`s count from `firstDataBlock`. */
export interface ImagePlan {
  /** In ascending order of their offsets; the root is the first. */
  readonly placements: readonly Placement[];
  /** The same by the ids of their inodes. */
  readonly byInode: readonly (Placement | undefined)[];
  readonly firstDataBlock: number;
  readonly totalBlocks: number;
  readonly hasChunks: boolean;
}

const NONE: Contents = { kind: "none" };

/**
 * Decides where everything goes. Inodes come first, those of one directory side by side, so that listing a
 * directory reads few blocks; then whatever is too big to sit beside its inode.
 *
 * @param start offset of the first byte that inodes may use
 * @throws MicrovmError IMAGE_LIMIT
 */
export async function planImage(
  root: Directory,
  start: number,
  limits: ImageLimits,
  signal?: AbortSignal,
): Promise<ImagePlan> {
  const planner = new Planner(start, limits);
  const pauser = new Pauser(signal);
  planner.place(root);
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const subdirectories: Directory[] = [];
    for (const name of planner.namesOf(directory)) {
      const inode = directory.children.get(name)?.inode;
      if (inode === undefined) continue; // "." and ".."
      planner.place(inode);
      if (inode.kind === "directory") subdirectories.push(inode);
      if (pauser.due()) await pauser.pause();
    }
    // The stack gives them back in their own order.
    for (const subdirectory of subdirectories.reverse()) directories.push(subdirectory);
  }
  return planner.finish();
}

class Planner {
  readonly #limits: ImageLimits;
  readonly #placements: Placement[] = [];
  readonly #byInode: (Placement | undefined)[] = [];
  #end: number;
  #dataBlocks = 0;
  #sparseBytes = 0;
  #hasChunks = false;

  constructor(start: number, limits: ImageLimits) {
    this.#end = start;
    this.#limits = limits;
  }

  /** Finds a place for an inode, or counts one more link to it. */
  place(inode: Inode): void {
    const known = this.#byInode[inode.id];
    if (known !== undefined) {
      known.links += 1;
      return;
    }
    const xattrs = encodeXattrs(inode.metadata.xattrs);
    const headSize = INODE_SIZE + xattrs.length;
    let offset = this.#wholeInOneBlock(INODE_SIZE);
    let tailSize = 0;
    let contents: Contents = NONE;
    switch (inode.kind) {
      case "file":
        if (inode.size > 0)
          contents = isWhole(inode) ? { kind: "layer", file: inode } : this.#planSparse(inode);
        if (contents.kind === "chunks") tailSize = tableBytes(contents.plan);
        break;
      case "symlink": {
        const { target } = inode;
        const size = headSize + target.length;
        // The kernel reads a target beside its inode only where both are in one block.
        const inline = size <= BLOCK;
        if (inline) {
          offset = this.#wholeInOneBlock(size);
          tailSize = target.length;
        }
        contents = {
          kind: "symlink",
          target,
          inline,
          dataBlock: this.#takeBlocks(inline ? 0 : target.length),
        };
        break;
      }
      case "directory": {
        const dirents = layoutDirents(inode.children.keys());
        const fullBlocks = dirents.firsts.length - 1;
        const place = this.#placeTail(offset, headSize, dirents.tailSize);
        const inline = place !== undefined;
        if (inline) {
          offset = place;
          tailSize = dirents.tailSize;
        }
        const dataBlock = this.#takeBlocks((inline ? fullBlocks : fullBlocks + 1) * BLOCK);
        contents = { kind: "directory", directory: inode, dirents, inline, dataBlock };
        break;
      }
    }
    this.#end = offset + headSize + tailSize;
    const links = inode.kind === "directory" ? 2 + countSubdirectories(inode) : 1;
    const placement = { inode, offset, xattrs, contents, links };
    this.#placements.push(placement);
    this.#byInode[inode.id] = placement;
  }

  namesOf(directory: Directory): DirentLayout["names"] {
    const contents = this.#byInode[directory.id]?.contents;
    return contents?.kind === "directory" ? contents.dirents.names : [];
  }

  finish(): ImagePlan {
    const firstDataBlock = Math.ceil(this.#end / BLOCK);
    const totalBlocks = firstDataBlock + this.#dataBlocks;
    if (totalBlocks * BLOCK > this.#limits.maxMetadataBytes) {
      throw overLimit(`${totalBlocks * BLOCK} bytes of metadata`);
    }
    return {
      placements: this.#placements,
      byInode: this.#byInode,
      firstDataBlock,
      totalBlocks,
      hasChunks: this.#hasChunks,
    };
  }

  #planSparse(file: FileInode): Contents {
    const plan = planChunks(file.sparse ?? [], file.size);
    this.#hasChunks = true;
    this.#sparseBytes += addedBytes(plan);
    if (this.#sparseBytes > this.#limits.maxSparseOverheadBytes) {
      throw overLimit("sparse files too big or too scattered to map");
    }
    return { kind: "chunks", file, plan, dataBlock: this.#takeBlocks(plan.copiedBytes) };
  }

  /** Next free offset from which `size` bytes, at most a block, cross no block boundary. */
  #wholeInOneBlock(size: number): number {
    const offset = alignUp(this.#end, NID_UNIT);
    return (offset % BLOCK) + size <= BLOCK ? offset : alignUp(offset, BLOCK);
  }

  /**
   * Where an inode can have its tail beside it: a tail must not cross a block boundary, the bytes before it
   * may. Undefined when that would waste more space than a data block for the tail.
   */
  #placeTail(offset: number, headSize: number, tailSize: number): number | undefined {
    if (((offset + headSize) % BLOCK) + tailSize <= BLOCK) return offset;
    const next = alignUp(offset, BLOCK);
    const fits = (headSize % BLOCK) + tailSize <= BLOCK;
    return fits && next - offset < BLOCK - tailSize ? next : undefined;
  }

  #takeBlocks(bytes: number): number {
    const first = this.#dataBlocks;
    this.#dataBlocks += Math.ceil(bytes / BLOCK);
    return first;
  }
}

/** Whether the layer's tar stores the file from its first byte to its last. */
function isWhole({ sparse, size }: FileInode): boolean {
  return sparse === undefined || (sparse.length === 1 && sparse[0]?.length === size);
}

function countSubdirectories(directory: Directory): number {
  let count = 0;
  for (const { inode } of directory.children.values()) if (inode.kind === "directory") count += 1;
  return count;
}
