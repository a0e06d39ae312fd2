// SPDX-License-Identifier: Apache-2.0
import { stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { MicrovmError } from "../errors.ts";
import { diskDescriptor } from "./disk.ts";
import { writeErofs } from "./erofs/write.ts";
import { corrupt, overLimit } from "./image-errors.ts";
import { EntryBudget, IMAGE_LIMITS, type ImageLimits } from "./limits.ts";
import { Pauser } from "./pause.ts";
import type { TarEntry } from "./tar/entry.ts";
import { scanTarFile } from "./tar/scan-file.ts";
import { ImageTree } from "./tree/tree.ts";

const SECTOR = 512;

export const ROOTFS_FILE = "rootfs.erofs";
export const DISK_FILE = "disk.vmdk";

export interface FlattenLayer {
  /** Of the plain tar. */
  readonly path: string;
  /** Of the file: the tar, padded with zeros to a multiple of 512. */
  readonly sizeBytes: number;
  /** Shown in errors, such as the DiffID. */
  readonly name?: string | undefined;
  /** What a `TarScanner` found in it; without, the file is scanned. */
  readonly entries?: readonly TarEntry[] | undefined;
}

export interface FlattenOptions {
  /** From the lowest to the highest. */
  readonly layers: readonly FlattenLayer[];
  /** An existing folder to write `rootfs.erofs` and `disk.vmdk` into. */
  readonly outDir: string;
  /** Where `outDir` will be renamed to, when it will: the disk names its layers relative to there. */
  readonly finalDir?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly limits?: ImageLimits | undefined;
}

export interface FlattenedImage {
  readonly rootfsPath: string;
  readonly diskPath: string;
  readonly inodes: number;
  /** Size of `rootfs.erofs`. */
  readonly rootfsBytes: number;
}

/**
 * Turns the layers of an image into one read-only disk without copying their contents: merges what their tar
 * headers say, writes it as an EROFS image, and strings that and the tars together in a VMDK descriptor.
 *
 * @throws MicrovmError IMAGE_CORRUPT, IMAGE_LIMIT, IMAGE_UNSUPPORTED; the signal's reason when aborted; system
 *   errors as they are
 */
export async function flatten(options: FlattenOptions): Promise<FlattenedImage> {
  const { layers, outDir, finalDir = outDir, signal, limits = IMAGE_LIMITS } = options;
  if (layers.length > limits.maxLayers) throw overLimit(`${layers.length} layers`);
  const tree = await mergeLayers(layers, limits, signal);

  const rootfsPath = join(outDir, ROOTFS_FILE);
  const blocks = layers.map(({ path, sizeBytes }) => ({ path, blocks: sizeBytes / SECTOR }));
  const rootfs = await writeErofs(tree.root, blocks, rootfsPath, { limits, signal });
  const rootfsBytes = rootfs.blocks * SECTOR;

  const extents = layers.map(({ path, sizeBytes }) => ({ path: relative(finalDir, path), sizeBytes }));
  const diskPath = join(outDir, DISK_FILE);
  const descriptor = diskDescriptor([{ path: ROOTFS_FILE, sizeBytes: rootfsBytes }, ...extents]);
  await writeFile(diskPath, descriptor, { mode: 0o600, signal });
  return { rootfsPath, diskPath, inodes: rootfs.inodes, rootfsBytes };
}

async function mergeLayers(
  layers: readonly FlattenLayer[],
  limits: ImageLimits,
  signal: AbortSignal | undefined,
): Promise<ImageTree> {
  const tree = new ImageTree(limits);
  const budget = new EntryBudget(limits);
  const pauser = new Pauser(signal);
  for (const [index, layer] of layers.entries()) {
    try {
      await checkSize(layer);
      const entries = layer.entries ?? (await scanTarFile(layer.path, signal, { limits, budget }));
      for (const entry of entries) {
        checkContents(entry, layer.sizeBytes);
        tree.apply(entry, index);
        if (pauser.due()) await pauser.pause();
      }
    } catch (error) {
      throw error instanceof MicrovmError ? error.within(`layer ${layer.name ?? index + 1}`) : error;
    }
  }
  return tree;
}

/** A scanner never finds such a file: the entries are another layer's, or the stored tar was cut. */
function checkContents({ dataOffset, size, sparse }: TarEntry, tarBytes: number): void {
  const last = sparse?.at(-1);
  const end =
    sparse === undefined ? dataOffset + size : last === undefined ? 0 : last.dataOffset + last.length;
  if (end > tarBytes) throw corrupt("contents lie outside the stored tar");
}

/** The disk would read past the end of a file that is shorter than it should be. */
async function checkSize({ path, sizeBytes }: FlattenLayer): Promise<void> {
  const { size } = await stat(path);
  if (sizeBytes % SECTOR !== 0 || size !== sizeBytes) {
    throw corrupt(`the stored tar has ${size} bytes instead of ${sizeBytes}, a multiple of ${SECTOR}`);
  }
}
