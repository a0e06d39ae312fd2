// SPDX-License-Identifier: Apache-2.0
import { toMicrovmError } from "../errors.ts";
import { corrupt, unsupported } from "./image-errors.ts";
import type { StoreLayout } from "./layout.ts";
import { type ParsedConfig, parseConfig } from "./manifest/config.ts";
import { parseManifest } from "./manifest/parse.ts";
import type { Descriptor, ImageManifest, IndexEntry } from "./manifest/schema.ts";
import { selectManifest } from "./manifest/select.ts";
import type { Platform } from "./platform.ts";
import { readBlob } from "./publish.ts";
import type { Reference } from "./reference.ts";
import type { ImageSource, SourceDocument } from "./source.ts";

/** Indexes may list indexes; nobody nests them deeper than this in earnest. */
const MAX_INDEX_DEPTH = 3;

/** An image's documents, verified and parsed. */
export interface ResolvedImage extends ParsedConfig {
  /** Digest of the manifest: the image's id. */
  readonly id: string;
  /** Digest of what the reference names: `id`, or that of an index. */
  readonly target: string;
  readonly manifest: ImageManifest;
  readonly manifestBytes: Buffer;
  readonly configBytes: Buffer;
}

/**
 * Finds the image that `reference` means on `platform`. Documents that the store has are not fetched.
 *
 * @param target digest that the reference is known to stand for
 */
export async function resolveImage(
  source: ImageSource,
  layout: StoreLayout,
  reference: Reference,
  platform: Platform,
  target: string | undefined,
): Promise<ResolvedImage> {
  const first = await document(source, layout, target ?? reference.digest ?? reference.tag ?? "latest");
  let current = first;
  for (let depth = 0; ; depth += 1) {
    const parsed = parseManifest(current.bytes, current.mediaType);
    if (parsed.kind === "manifest") {
      const { manifest } = parsed;
      const configBytes = await configBlob(source, layout, manifest.config);
      const config = parseConfig(configBytes, manifest.layers.length, platform);
      return {
        ...config,
        id: current.digest,
        target: first.digest,
        manifest,
        manifestBytes: current.bytes,
        configBytes,
      };
    }
    if (depth === MAX_INDEX_DEPTH) throw unsupported(`indexes nested more than ${MAX_INDEX_DEPTH} deep`);
    current = await entryDocument(source, layout, selectManifest(parsed.index, platform));
  }
}

async function entryDocument(
  source: ImageSource,
  layout: StoreLayout,
  entry: IndexEntry,
): Promise<SourceDocument> {
  const found = await document(source, layout, entry.digest);
  if (found.bytes.length !== entry.size) {
    throw corrupt(`manifest ${entry.digest}: ${found.bytes.length} bytes, the index says ${entry.size}`);
  }
  return { ...found, mediaType: entry.mediaType };
}

async function document(
  source: ImageSource,
  layout: StoreLayout,
  tagOrDigest: string,
): Promise<SourceDocument> {
  // Tags have no colon, digests have one.
  const stored = tagOrDigest.includes(":") ? await readBlob(layout, tagOrDigest) : undefined;
  if (stored) return { bytes: stored, digest: tagOrDigest, mediaType: undefined };
  return source.manifest(tagOrDigest);
}

async function configBlob(source: ImageSource, layout: StoreLayout, descriptor: Descriptor): Promise<Buffer> {
  const stored = await readBlob(layout, descriptor.digest);
  if (stored?.length === descriptor.size) return stored;
  try {
    return await source.document(descriptor, "config");
  } catch (error) {
    throw toMicrovmError(error, "image").within(`config ${descriptor.digest}`);
  }
}
