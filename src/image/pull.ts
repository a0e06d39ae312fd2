// SPDX-License-Identifier: Apache-2.0
import { mkdir } from "node:fs/promises";
import type { Catalog, CatalogImage, CatalogReference } from "./catalog.ts";
import type { PullListener } from "./events.ts";
import { fetchLayers, type StoredLayer, type WantedLayer } from "./fetch-layers.ts";
import { flatten } from "./flatten.ts";
import { corrupt } from "./image-errors.ts";
import { rootfsKey, type StoreLayout } from "./layout.ts";
import { formatPlatform, type Platform } from "./platform.ts";
import { missingFiles } from "./presence.ts";
import { fileSize, publishBlob, publishDir } from "./publish.ts";
import type { Reference } from "./reference.ts";
import { RegistrySource } from "./registry/registry-source.ts";
import type { RegistryTuning } from "./registry/tuning.ts";
import { type ResolvedImage, resolveImage } from "./resolve.ts";
import type { ImageSource } from "./source.ts";
import { Staging, sweepStaging } from "./staging.ts";

/** Another process may remove what this one has just fetched, but hardly this often. */
const MAX_ROUNDS = 3;

export interface PullContext {
  readonly layout: StoreLayout;
  readonly catalog: Catalog;
  readonly downloads: Map<string, Promise<unknown>>;
  readonly reference: Reference;
  /** The name the result is filed under. */
  readonly name: string;
  readonly platform: Platform;
  readonly dockerConfig: string;
  readonly tuning: RegistryTuning;
  readonly signal: AbortSignal;
  readonly emit: PullListener;
}

/** Brings an image from its registry into the store; fetches and makes only what is not there. Returns its id. */
export async function pullImage(context: PullContext): Promise<string> {
  const { layout, reference, platform, dockerConfig, tuning, signal, emit } = context;
  await sweepStaging(layout);
  await using source = await RegistrySource.open(reference, dockerConfig, tuning, signal);
  const target = await knownTarget(source, context);
  const image = await resolveImage(source, layout, reference, platform, target);
  const layers = wantedLayers(image);
  emit({
    type: "resolved",
    reference: reference.toString(),
    digest: image.id,
    platform: formatPlatform(image.platform),
    layers: layers.map(({ digest, diffId, size }) => ({ digest, diffId, size })),
  });
  await using staging = Staging.create(layout);
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const present = context.catalog.image(image.id);
    const fromStore = present !== undefined && missingFiles(layout, present).length === 0;
    const row = fromStore ? present : await build(image, layers, source, staging, context);
    if (row === undefined) continue;
    await publishBlob(layout, staging, image.id, image.manifestBytes);
    await publishBlob(layout, staging, row.configDigest, image.configBytes);
    if (!commit(context, row, image.target)) continue;
    emit({ type: "done", digest: image.id, fromStore });
    return image.id;
  }
  throw corrupt("files of the image keep vanishing from the store while it is pulled");
}

/** The digest behind the tag, where it may spare a request: only for names that were pulled before. */
async function knownTarget(source: ImageSource, context: PullContext): Promise<string | undefined> {
  const { reference, catalog, name, platform } = context;
  if (reference.digest !== undefined || reference.tag === undefined) return undefined;
  if (!catalog.reference(name, formatPlatform(platform))) return undefined;
  return source.resolve(reference.tag);
}

function wantedLayers({ manifest, diffIds }: ResolvedImage): WantedLayer[] {
  return manifest.layers.flatMap((descriptor, index) => {
    const diffId = diffIds[index];
    return diffId === undefined
      ? []
      : { digest: descriptor.digest, size: descriptor.size, diffId, descriptor };
  });
}

/** Makes everything an image consists of; undefined if some of it was removed meanwhile. */
async function build(
  image: ResolvedImage,
  layers: readonly WantedLayer[],
  source: ImageSource,
  staging: Staging,
  context: PullContext,
): Promise<CatalogImage | undefined> {
  const { layout, signal, emit } = context;
  const fetched = await fetchLayers(layers, { ...context, source, staging });
  const stored = image.diffIds.flatMap((diffId) => fetched.get(diffId) ?? []);
  const key = rootfsKey(image.diffIds);
  emit({ type: "flattening", digest: image.id });
  const rootfsBytes =
    (await rootfsSize(layout, key)) ?? (await makeRootfs(key, stored, staging, layout, signal));
  return {
    id: image.id,
    platform: formatPlatform(image.platform),
    config: image.config,
    configDigest: image.manifest.config.digest,
    rootfsKey: key,
    rootfsBytes,
    layers: stored.map(({ diffId, tarBytes }) => ({ diffId, size: tarBytes })),
    builtAt: image.createdAt?.getTime(),
    createdAt: Date.now(),
  };
}

async function rootfsSize(layout: StoreLayout, key: string): Promise<number | undefined> {
  const disk = await fileSize(layout.rootfsDisk(key));
  return disk === undefined ? undefined : fileSize(layout.rootfsImage(key));
}

async function makeRootfs(
  key: string,
  layers: readonly StoredLayer[],
  staging: Staging,
  layout: StoreLayout,
  signal: AbortSignal,
): Promise<number> {
  const outDir = staging.path("rootfs");
  await mkdir(outDir, { mode: 0o700 });
  const finalDir = layout.rootfsDir(key);
  const { rootfsBytes } = await flatten({ layers, outDir, finalDir, signal });
  await publishDir(outDir, finalDir);
  return rootfsBytes;
}

/** Files the image in the catalog; false if another process has removed a part of it. */
function commit(
  { layout, catalog, name, platform }: PullContext,
  image: CatalogImage,
  target: string,
): boolean {
  const reference: CatalogReference = {
    reference: name,
    platform: formatPlatform(platform),
    imageId: image.id,
    target,
  };
  return catalog.exclusively(() => {
    if (missingFiles(layout, image).length > 0) return false;
    catalog.putImage(image);
    catalog.putReference(reference);
    return true;
  });
}
