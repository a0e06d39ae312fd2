// SPDX-License-Identifier: Apache-2.0
import { existsSync, lstatSync } from "node:fs";
import { MicrovmError } from "../errors.ts";
import type { Catalog, CatalogImage } from "./catalog.ts";
import type { StoreLayout } from "./layout.ts";
import { Staging } from "./staging.ts";

/** What `remove` did. */
export interface RemovedImage {
  readonly id: string;
  /** Names that were taken off the image. */
  readonly untagged: readonly string[];
  /** Whether the image itself went, too: it stays while it has other names. */
  readonly deleted: boolean;
  /** Disk space of the files that no other image uses. */
  readonly freedBytes: number;
}

/**
 * Takes `names` off an image, and removes it when none is left. What other images share stays.
 *
 * @throws MicrovmError `IMAGE_IN_USE` while a lease's holder exists, unless forced
 */
export function removeImage(
  catalog: Catalog,
  layout: StoreLayout,
  image: CatalogImage,
  names: readonly string[],
  force: boolean,
): RemovedImage {
  const trash = Staging.create(layout);
  try {
    return catalog.exclusively(() => {
      for (const name of names) catalog.deleteReference(name, image.id);
      const deleted = catalog.referencesOf(image.id).length === 0;
      if (!deleted) return { id: image.id, untagged: names, deleted, freedBytes: 0 };
      if (!force) assertUnused(catalog, image.id);
      catalog.deleteImage(image.id);
      return { id: image.id, untagged: names, deleted, freedBytes: takeFiles(catalog, layout, image, trash) };
    });
  } finally {
    trash.removeSync();
  }
}

/** Directories of VMs that were made from an image and still exist. */
export function liveHolders(catalog: Catalog, imageId: string): string[] {
  return catalog.holders(imageId).filter((holder) => existsSync(holder));
}

function assertUnused(catalog: Catalog, imageId: string): void {
  const [holder, ...others] = liveHolders(catalog, imageId);
  if (holder === undefined) return;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  throw new MicrovmError("IMAGE_IN_USE", `in use by ${holder}${more}`, {
    stage: "image",
    hint: "Remove the VMs made from it first, or force the removal.",
  });
}

/** Renames away what no row refers to any more. Runs within the transaction, so that no commit can come between. */
function takeFiles(catalog: Catalog, layout: StoreLayout, image: CatalogImage, trash: Staging): number {
  let freed = 0;
  const take = (path: string, bytes: number) => {
    if (trash.takeAway(path)) freed += bytes;
  };
  if (catalog.rootfsBytes(image.rootfsKey) === undefined)
    take(layout.rootfsDir(image.rootfsKey), image.rootfsBytes);
  for (const { diffId, size } of image.layers) {
    if (catalog.layerBytes(diffId) === undefined) take(layout.layerDir(diffId), size);
  }
  for (const digest of [image.id, image.configDigest]) {
    if (!catalog.usesBlob(digest))
      take(layout.blob(digest), lstatSync(layout.blob(digest), { throwIfNoEntry: false })?.size ?? 0);
  }
  return freed;
}
