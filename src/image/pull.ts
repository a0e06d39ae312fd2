// SPDX-License-Identifier: Apache-2.0
import { mkdir } from "node:fs/promises";
import { isErrno } from "../errors.ts";
import type { Catalog, CatalogImage, CatalogReference } from "./catalog.ts";
import type { PullListener } from "./events.ts";
import { fetchLayers, type StoredLayer, type WantedLayer } from "./fetch-layers.ts";
import { flatten } from "./flatten.ts";
import { corrupt } from "./image-errors.ts";
import { rootfsKey, type StoreLayout } from "./layout.ts";
import { formatPlatform, type Platform } from "./platform.ts";
import { hasFile, missingFiles } from "./presence.ts";
import { type PublishContext, publishBlob, publishDir } from "./publish.ts";
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
    if (fromStore) {
      for (const { digest, size } of layers) {
        emit({ type: "layer", digest, status: "exists", bytes: size, total: size });
      }
    }
    const row = fromStore ? present : await build(image, layers, source, staging, context).catch(ifVanished);
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

/** Undefined if another process has removed a file that was about to be used; throws everything else again. */
function ifVanished(error: unknown): undefined {
  if (!isErrno(error, "ENOENT")) throw error;
}

function wantedLayers({ manifest, diffIds }: ResolvedImage): WantedLayer[] {
  return manifest.layers.flatMap((descriptor, index) => {
    const diffId = diffIds[index];
    return diffId === undefined
      ? []
      : { digest: descriptor.digest, size: descriptor.size, diffId, descriptor };
  });
}

/** Makes everything that an image consists of and the store does not have. */
async function build(
  image: ResolvedImage,
  layers: readonly WantedLayer[],
  source: ImageSource,
  staging: Staging,
  context: PullContext,
): Promise<CatalogImage> {
  const { emit } = context;
  const fetched = await fetchLayers(layers, { ...context, source, staging });
  const stored = image.diffIds.flatMap((diffId) => fetched.get(diffId) ?? []);
  const key = rootfsKey(image.diffIds);
  emit({ type: "flattening", digest: image.id });
  const rootfsBytes = knownRootfs(key, context) ?? (await makeRootfs(key, stored, { ...context, staging }));
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

/** Bytes of a `rootfs.erofs` that some image has already; one that no image has is quickly made anew. */
function knownRootfs(key: string, { catalog, layout }: PullContext): number | undefined {
  const bytes = catalog.rootfsBytes(key);
  const complete = hasFile(layout.rootfsDisk(key)) && hasFile(layout.rootfsImage(key), bytes);
  return complete ? bytes : undefined;
}

async function makeRootfs(
  key: string,
  layers: readonly StoredLayer[],
  context: PullContext & PublishContext,
): Promise<number> {
  const { layout, staging, signal } = context;
  const outDir = staging.path("rootfs");
  await mkdir(outDir, { mode: 0o700 });
  const finalDir = layout.rootfsDir(key);
  const { rootfsBytes } = await flatten({ layers, outDir, finalDir, signal });
  await publishDir(context, outDir, finalDir, () => knownRootfs(key, context) !== undefined);
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
