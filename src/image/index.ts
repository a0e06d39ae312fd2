// SPDX-License-Identifier: Apache-2.0
export type { CatalogLayer as StoredImageLayer } from "./catalog.ts";
export type { LayerStatus, PullEvent, PullLayer, PullListener } from "./events.ts";
export type { ImageConfig } from "./manifest/config.ts";
export { familiarName, parseReference, type Reference } from "./reference.ts";
export type { RemovedImage } from "./remove.ts";
export {
  ImageStore,
  type ImageStoreOptions,
  type PullOptions,
  type PullPolicy,
  type StoredImage,
} from "./store.ts";
