// SPDX-License-Identifier: Apache-2.0
import { overLimit } from "./image-errors.ts";

/**
 * Every bound the image pipeline puts on what a registry or a layer may make this process hold, write or walk.
 *
 * An image is hostile until proved otherwise: whatever crosses one of these lines ends with `IMAGE_LIMIT`,
 * before the memory or disk is used.
 */
export interface ImageLimits {
  // --- documents ---
  /** Bytes of a manifest or image index (registries accept 4 MiB). */
  readonly maxManifestBytes: number;
  /** Bytes of an image config. */
  readonly maxConfigBytes: number;
  /** Layers of one image. */
  readonly maxLayers: number;

  // --- bytes ---
  /** Bytes of one decompressed layer. */
  readonly maxLayerBytes: number;
  /** Bytes of all decompressed layers of one image together, so that a bomb cannot be split across layers. */
  readonly maxImageBytes: number;
  /** Times its compressed size that a layer may decompress to, once it is past `ratioFreeBytes`. */
  readonly maxRatio: number;
  readonly ratioFreeBytes: number;

  // --- tar entries ---
  /** Entries of all layers of one image together. */
  readonly maxEntries: number;
  /** Bytes of all names, link targets, xattrs and sparse maps of one image together: what a scan keeps in memory. */
  readonly maxEntryBytes: number;
  /** Bytes of an entry's path (Linux PATH_MAX, without its NUL). */
  readonly maxPathBytes: number;
  /** Bytes of a symlink's or hard link's target (Linux PATH_MAX, without its NUL). */
  readonly maxLinkBytes: number;
  /** Bytes of one PAX extended header or of one GNU long name record, as in Go's archive/tar. */
  readonly maxPaxBytes: number;
  /** Bytes of one extended attribute's name (Linux XATTR_NAME_MAX). */
  readonly maxXattrNameBytes: number;
  /** Bytes of one extended attribute's value (what an EROFS entry can hold; Linux allows one more). */
  readonly maxXattrValueBytes: number;
  /** Bytes of all names and values of one entry's extended attributes (Linux XATTR_LIST_MAX is 64 KiB of names). */
  readonly maxXattrBytesPerEntry: number;
  /** Data segments of one sparse file. */
  readonly maxSparseSegments: number;

  // --- the merged tree ---
  /** Bytes of one file name (Linux NAME_MAX, EROFS_NAME_LEN). */
  readonly maxNameBytes: number;
  /** Directories above any entry. */
  readonly maxDepth: number;
  /** Symlinks followed while one path is resolved, as in filepath-securejoin. */
  readonly maxSymlinks: number;
  /** Path components looked up while the layers of one image are merged, those of symlinks' targets included. */
  readonly maxPathSteps: number;

  // --- rootfs.erofs ---
  /** Bytes of rootfs.erofs. */
  readonly maxMetadataBytes: number;
  /** Bytes that sparse files may add to rootfs.erofs: chunk tables, and pieces no block boundary falls on. */
  readonly maxSparseOverheadBytes: number;
}

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

export const IMAGE_LIMITS: ImageLimits = {
  maxManifestBytes: 4 * MiB,
  maxConfigBytes: 8 * MiB,
  maxLayers: 256,

  maxLayerBytes: 64 * GiB,
  maxImageBytes: 64 * GiB,
  maxRatio: 200,
  ratioFreeBytes: 1 * GiB,

  maxEntries: 1_000_000,
  maxEntryBytes: 256 * MiB,
  maxPathBytes: 4095,
  maxLinkBytes: 4095,
  maxPaxBytes: 1 * MiB,
  maxXattrNameBytes: 255,
  maxXattrValueBytes: 65_535,
  maxXattrBytesPerEntry: 128 * KiB,
  maxSparseSegments: 100_000,

  maxNameBytes: 255,
  maxDepth: 2048,
  maxSymlinks: 255,
  maxPathSteps: 100_000_000,

  maxMetadataBytes: 2 * GiB,
  maxSparseOverheadBytes: 128 * MiB,
};

/** What the layers of one image may still use of `maxEntries` and `maxEntryBytes`; shared by their scanners. */
export class EntryBudget {
  readonly #limits: ImageLimits;
  #entries = 0;
  #bytes = 0;

  constructor(limits: ImageLimits = IMAGE_LIMITS) {
    this.#limits = limits;
  }

  /** Accounts for one more entry that keeps `bytes` in memory; throws `IMAGE_LIMIT` when there is no room for it. */
  take(bytes: number): void {
    this.#entries += 1;
    this.#bytes += bytes;
    if (this.#entries > this.#limits.maxEntries) {
      throw overLimit(`more than ${this.#limits.maxEntries} files and directories in the image`);
    }
    if (this.#bytes > this.#limits.maxEntryBytes) {
      throw overLimit(`more than ${this.#limits.maxEntryBytes} bytes of names and attributes in the image`);
    }
  }
}
