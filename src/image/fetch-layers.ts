// SPDX-License-Identifier: Apache-2.0
import { createReadStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { MicrovmError } from "../errors.ts";
import { formatDigest, hasherOf } from "./digest.ts";
import type { LayerStatus, PullLayer, PullListener } from "./events.ts";
import type { FlattenLayer } from "./flatten.ts";
import { ByteBudget } from "./layer/byte-budget.ts";
import { downloadLayer } from "./layer/download.ts";
import { LAYER_FILE, paddedSize, type StoreLayout } from "./layout.ts";
import { EntryBudget } from "./limits.ts";
import type { Descriptor } from "./manifest/schema.ts";
import { hasFile } from "./presence.ts";
import { type PublishContext, publishDir } from "./publish.ts";
import type { ImageSource } from "./source.ts";

/** Enough to keep two cores decompressing while others wait for the network. */
const PARALLEL = 4;
const READ_BYTES = 256 * 1024;
/** Pause between two progress events of a layer. */
const PROGRESS_MS = 50;

/** A layer in the store, ready to be flattened. */
export interface StoredLayer extends FlattenLayer {
  readonly diffId: string;
  /** Of the tar, without padding. */
  readonly tarBytes: number;
}

export interface FetchContext extends PublishContext {
  readonly source: ImageSource;
  readonly layout: StoreLayout;
  /** Downloads of this process by DiffID: pulls that need the same layer at the same time share it. */
  readonly downloads: Map<string, Promise<unknown>>;
  readonly signal: AbortSignal;
  readonly emit: PullListener;
}

/** A layer to fetch: what the manifest and what the config say of it. */
export interface WantedLayer extends PullLayer {
  readonly descriptor: Descriptor;
}

/**
 * Brings the layers that are missing into the store, several at a time; the first failure ends them all.
 *
 * @returns all layers by DiffID
 */
export async function fetchLayers(
  layers: readonly WantedLayer[],
  context: FetchContext,
): Promise<ReadonlyMap<string, StoredLayer>> {
  const cancel = new AbortController();
  const scoped = { ...context, signal: AbortSignal.any([context.signal, cancel.signal]) };
  const budgets = { bytes: new ByteBudget(), entries: new EntryBudget() };
  const stored = new Map<string, StoredLayer>();
  // The longest first, so that none is left to be decompressed alone on one core at the end.
  const queue = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()].sort(
    (a, b) => b.size - a.size,
  );
  const failures: unknown[] = [];
  const work = async () => {
    for (let layer = queue.shift(); layer && !scoped.signal.aborted; layer = queue.shift()) {
      try {
        stored.set(layer.diffId, await obtain(layer, scoped, budgets));
      } catch (error) {
        failures.push(error instanceof MicrovmError ? error.within(`layer ${layer.digest}`) : error);
        cancel.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  context.signal.throwIfAborted();
  if (failures.length > 0) throw failures[0];
  return stored;
}

type Budgets = { readonly bytes: ByteBudget; readonly entries: EntryBudget };

async function obtain(layer: WantedLayer, context: FetchContext, budgets: Budgets): Promise<StoredLayer> {
  const { downloads, signal, emit } = context;
  for (;;) {
    const stored = await findLayer(layer.diffId, context);
    if (stored) {
      budgets.bytes.takeStored(stored.tarBytes);
      emit({ type: "layer", digest: layer.digest, status: "exists", bytes: layer.size, total: layer.size });
      return stored;
    }
    const other = downloads.get(layer.diffId);
    if (other === undefined) break;
    await Promise.race([other.catch(() => {}), aborted(signal)]);
    signal.throwIfAborted();
  }
  const download = downloadTo(layer, context, budgets);
  downloads.set(layer.diffId, download);
  try {
    return await download;
  } finally {
    downloads.delete(layer.diffId);
  }
}

async function downloadTo(layer: WantedLayer, context: FetchContext, budgets: Budgets): Promise<StoredLayer> {
  const { source, layout, staging, signal } = context;
  const { diffId, descriptor } = layer;
  const report = reporter(layer, context.emit);
  report("downloading", 0);
  const dir = staging.path("layer");
  await mkdir(dir, { mode: 0o700 });
  const blob = source.blob(descriptor, signal, (reason) => report("retrying", undefined, reason));
  const account = { bytes: budgets.bytes.layer(), entries: budgets.entries };
  const { sizeBytes: tarBytes, entries } = await downloadLayer(
    blob,
    layer,
    join(dir, LAYER_FILE),
    account,
    (bytes) => report("downloading", bytes),
  );
  signal.throwIfAborted();
  const stored = { ...storedLayer(layout, diffId, tarBytes), entries };
  await publishDir(context, dir, layout.layerDir(diffId), () => isKnown(stored, context));
  report("verified", layer.size);
  return stored;
}

/**
 * A layer that is in the store, as the catalog vouches for. One that no image has, left by a pull that did not come
 * to its end, is verified once more.
 */
async function findLayer(
  diffId: string,
  { catalog, layout, signal }: FetchContext,
): Promise<StoredLayer | undefined> {
  const path = layout.layerTar(diffId);
  const known = catalog.layerBytes(diffId);
  if (known !== undefined) {
    return hasFile(path, paddedSize(known)) ? storedLayer(layout, diffId, known) : undefined;
  }
  if (!hasFile(path)) return undefined;
  const { digest, size } = await digestOfFile(path, diffId, signal);
  return digest === diffId ? storedLayer(layout, diffId, size) : undefined;
}

function isKnown({ diffId, path, sizeBytes }: StoredLayer, { catalog }: FetchContext): boolean {
  return catalog.layerBytes(diffId) !== undefined && hasFile(path, sizeBytes);
}

async function digestOfFile(path: string, like: string, signal: AbortSignal) {
  const hash = hasherOf(like);
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { digest: formatDigest(hash, like), size };
}

function storedLayer(layout: StoreLayout, diffId: string, tarBytes: number): StoredLayer {
  return { diffId, name: diffId, path: layout.layerTar(diffId), tarBytes, sizeBytes: paddedSize(tarBytes) };
}

function reporter(layer: WantedLayer, emit: PullListener) {
  const { digest, size: total } = layer;
  let reported = 0;
  let next = 0;
  return (status: LayerStatus, bytes = reported, reason?: string): void => {
    reported = bytes;
    const now = performance.now();
    if (status === "downloading" && now < next) return;
    next = now + PROGRESS_MS;
    emit({ type: "layer", digest, status, bytes, total, ...(reason === undefined ? {} : { reason }) });
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
