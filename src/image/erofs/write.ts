// SPDX-License-Identifier: Apache-2.0
import { open } from "node:fs/promises";
import { overLimit } from "../image-errors.ts";
import { IMAGE_LIMITS, type ImageLimits } from "../limits.ts";
import { Pauser } from "../pause.ts";
import type { ByteString } from "../tar/entry.ts";
import type { Directory, Inode } from "../tree/inode.ts";
import { chunkTable } from "./chunks.ts";
import { copyChunks } from "./copy-chunks.ts";
import { type DirentTarget, writeDirentBlock } from "./dirents.ts";
import { BLOCK, FILE_TYPE, INODE_SIZE, NID_UNIT } from "./format.ts";
import { type InodeAddresses, writeInode } from "./inode.ts";
import { type Contents, type ImagePlan, planImage } from "./plan.ts";
import { FileSink } from "./sink.ts";
import { type Device, encodeSuperblock, superblockEnd } from "./superblock.ts";

export interface ErofsLayer {
  /** Of the tar that file contents are in. */
  readonly path: string;
  /** Size of the tar in blocks of 512 bytes. */
  readonly blocks: number;
}

export interface WriteErofsOptions {
  readonly limits?: ImageLimits | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ErofsImage {
  /** Size of the image in blocks of 512 bytes; the layers' blocks follow it in the address space. */
  readonly blocks: number;
  readonly inodes: number;
}

/**
 * Writes an EROFS image that holds the inodes and directories of a tree, while file contents stay in the tars
 * of the layers: the image and the tars, one after the other on one disk, are a filesystem that Linux mounts.
 *
 * The same tree gives the same bytes.
 *
 * @param root the tree; a file's `layer` is an index into `layers`
 * @param path of the image; replaced if it exists
 * @throws MicrovmError IMAGE_LIMIT, IMAGE_CORRUPT; the signal's reason when aborted; system errors as they are
 */
export async function writeErofs(
  root: Directory,
  layers: readonly ErofsLayer[],
  path: string,
  { limits = IMAGE_LIMITS, signal }: WriteErofsOptions = {},
): Promise<ErofsImage> {
  const plan = await planImage(root, superblockEnd(layers.length), limits, signal);
  const devices = placeDevices(layers, plan.totalBlocks);
  const rootNid = (plan.placements[0]?.offset ?? 0) / NID_UNIT;
  const file = await open(path, "w", 0o600);
  try {
    const sink = new FileSink(file);
    const { totalBlocks: blocks, hasChunks, placements } = plan;
    await sink.write(0, encodeSuperblock({ rootNid, inodes: placements.length, blocks, devices, hasChunks }));
    const pauser = new Pauser(signal);
    await writeInodes(plan, devices, sink, pauser);
    await writeData(plan, layers, sink, pauser);
    await sink.finish(blocks * BLOCK);
    return { blocks, inodes: placements.length };
  } finally {
    await file.close();
  }
}

/** Block addresses have 32 bits, of which all ones means a hole: 2 TiB, of which the image and all layers are part. */
function placeDevices(layers: readonly ErofsLayer[], metadataBlocks: number): Device[] {
  let firstBlock = metadataBlocks;
  const devices: Device[] = [];
  for (const { blocks } of layers) {
    devices.push({ firstBlock, blocks });
    firstBlock += blocks;
    if (firstBlock >= 0xffff_ffff) throw overLimit("the layers are bigger than 2 TiB");
  }
  return devices;
}

async function writeInodes(
  plan: ImagePlan,
  devices: readonly Device[],
  sink: FileSink,
  pauser: Pauser,
): Promise<void> {
  const layerBlocks = devices.map(({ firstBlock }) => firstBlock);
  const addresses: InodeAddresses = { firstDataBlock: plan.firstDataBlock, layerBlocks };
  for (const [index, placement] of plan.placements.entries()) {
    const { offset, xattrs, contents } = placement;
    const headSize = INODE_SIZE + xattrs.length;
    const size = headSize + inlineSize(contents);
    const out = sink.tryView(offset, size) ?? (await sink.view(offset, size));
    // Numbered from 1: some programs take inode 0 for a deleted file.
    writeInode(placement, index + 1, addresses, out);
    out.set(xattrs, INODE_SIZE);
    if (contents.kind === "symlink" && contents.inline) {
      out.write(contents.target, headSize, "latin1");
    } else if (contents.kind === "directory" && contents.inline) {
      const { dirents, directory } = contents;
      const tail = out.subarray(headSize);
      writeDirentBlock(dirents, dirents.firsts.length - 1, direntTargets(plan, directory), tail);
    } else if (contents.kind === "chunks") {
      const layerBlock = layerBlocks[contents.file.layer] ?? 0;
      const table = chunkTable(contents.plan, layerBlock, plan.firstDataBlock + contents.dataBlock);
      await sink.write(offset + size, table);
    }
    if (pauser.due()) await pauser.pause();
  }
}

/** Writes what was too big to sit beside its inode, in the order in which the plan gave it blocks. */
async function writeData(
  plan: ImagePlan,
  layers: readonly ErofsLayer[],
  sink: FileSink,
  pauser: Pauser,
): Promise<void> {
  for (const { contents } of plan.placements) {
    if (contents.kind === "none" || contents.kind === "layer") continue;
    const offset = (plan.firstDataBlock + contents.dataBlock) * BLOCK;
    if (contents.kind === "symlink" && !contents.inline) {
      await sink.write(offset, Buffer.from(contents.target, "latin1"));
    } else if (contents.kind === "directory") {
      const { dirents, directory, inline } = contents;
      const blocks = dirents.firsts.length - (inline ? 1 : 0);
      const targetOf = direntTargets(plan, directory);
      for (let block = 0; block < blocks; block += 1) {
        const at = offset + block * BLOCK;
        writeDirentBlock(dirents, block, targetOf, sink.tryView(at, BLOCK) ?? (await sink.view(at, BLOCK)));
        if (pauser.due()) await pauser.pause();
      }
    } else if (contents.kind === "chunks") {
      const layer = layers[contents.file.layer];
      if (layer !== undefined) await copyChunks(contents.plan, layer.path, sink, offset, pauser);
    }
  }
}

function inlineSize(contents: Contents): number {
  if (contents.kind === "symlink" && contents.inline) return contents.target.length;
  return contents.kind === "directory" && contents.inline ? contents.dirents.tailSize : 0;
}

function direntTargets({ byInode }: ImagePlan, directory: Directory): (name: ByteString) => DirentTarget {
  return (name) => {
    const inode = namedInode(directory, name);
    const offset = byInode[inode.id]?.offset ?? 0;
    return { nid: offset / NID_UNIT, fileType: FILE_TYPE[inode.kind] };
  };
}

function namedInode(directory: Directory, name: ByteString): Inode {
  if (name === ".") return directory;
  if (name === "..") return directory.parent ?? directory;
  return directory.children.get(name)?.inode ?? directory;
}
