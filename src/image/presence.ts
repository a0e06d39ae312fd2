// SPDX-License-Identifier: Apache-2.0
import { lstatSync } from "node:fs";
import type { CatalogImage } from "./catalog.ts";
import { paddedSize, type StoreLayout } from "./layout.ts";

/**
 * Files that the catalog says an image has, and that are not there or not of the right length.
 *
 * Synchronous: it runs within catalog transactions, and when a VM starts from an image that is here already.
 */
export function missingFiles(layout: StoreLayout, image: CatalogImage): string[] {
  const { rootfsKey, rootfsBytes } = image;
  const expected: [path: string, bytes: number | undefined][] = [
    [layout.rootfsDisk(rootfsKey), undefined],
    [layout.rootfsImage(rootfsKey), rootfsBytes],
  ];
  for (const { diffId, size } of image.layers) expected.push([layout.layerTar(diffId), paddedSize(size)]);
  return expected.flatMap(([path, bytes]) => (hasFile(path, bytes) ? [] : path));
}

/** Whether `path` is a regular file, of `bytes` if that is known. */
export function hasFile(path: string, bytes?: number): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isFile() === true && (bytes === undefined || stat.size === bytes);
}
