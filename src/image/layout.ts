// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { join } from "node:path";
import { parseDigest } from "./digest.ts";

/** Extents of a disk are whole sectors. */
const SECTOR = 512;

export const LAYER_FILE = "layer.tar";
export const ROOTFS_FILE = "rootfs.erofs";
export const DISK_FILE = "disk.vmdk";

/** Part of every rootfs key: a release that writes rootfs.erofs or disk.vmdk differently must change it. */
const ROOTFS_FORMAT = "rootfs-1";

/** Where things are under an image store's directory. Source: docs/CONTRACTS.md. */
export class StoreLayout {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  get catalog(): string {
    return join(this.dir, "catalog.db");
  }

  /** What is being made or unmade; two levels down lies what will move to two levels under `layers` or `rootfs`. */
  get staging(): string {
    return join(this.dir, "tmp");
  }

  layerDir(diffId: string): string {
    return join(this.dir, "layers", ...segments(diffId));
  }

  layerTar(diffId: string): string {
    return join(this.layerDir(diffId), LAYER_FILE);
  }

  /** @param key see `rootfsKey` */
  rootfsDir(key: string): string {
    return join(this.dir, "rootfs", ...segments(key));
  }

  rootfsImage(key: string): string {
    return join(this.rootfsDir(key), ROOTFS_FILE);
  }

  rootfsDisk(key: string): string {
    return join(this.rootfsDir(key), DISK_FILE);
  }

  blob(digest: string): string {
    return join(this.dir, "blobs", ...segments(digest));
  }
}

/** Bytes of the file that holds a tar of `tarBytes`. */
export function paddedSize(tarBytes: number): number {
  return Math.ceil(tarBytes / SECTOR) * SECTOR;
}

/** What names the flattened form of a stack of layers; images with the same layers share it. */
export function rootfsKey(diffIds: readonly string[]): string {
  const hex = createHash("sha256")
    .update([ROOTFS_FORMAT, ...diffIds].join("\n"))
    .digest("hex");
  return `sha256:${hex}`;
}

function segments(digest: string): [string, string] {
  const parsed = parseDigest(digest);
  // Digests were validated where they came in; this is what keeps `..` out of paths all the same.
  if (!parsed) throw new TypeError(`not a digest: ${digest}`);
  return [parsed.algorithm, parsed.hex];
}
