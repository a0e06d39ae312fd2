// SPDX-License-Identifier: Apache-2.0
import type * as z from "zod";
import { corrupt, overLimit, quoted, unsupported } from "../image-errors.ts";
import { IMAGE_LIMITS } from "../limits.ts";
import { check, parseJson } from "./json.ts";
import { isForeignLayer, isImageConfig, isTarLayer, type ManifestKind, manifestKind } from "./media-types.ts";
import {
  type Descriptor,
  documentSchema,
  type ImageIndex,
  type ImageManifest,
  indexSchema,
  manifestSchema,
} from "./schema.ts";

/** An index or a manifest, told apart and checked. */
export type ManifestDocument =
  | { readonly kind: "index"; readonly index: ImageIndex }
  | { readonly kind: "manifest"; readonly manifest: ImageManifest };

/**
 * Parses what a registry serves under `manifests/`.
 *
 * @param bytes the document, its digest already verified
 * @param contentType the registry's word on what it is: believed only where the document does not say
 * @throws MicrovmError `IMAGE_CORRUPT`, `IMAGE_UNSUPPORTED`, `IMAGE_LIMIT`
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): ManifestDocument {
  const json = parseJson(bytes, "manifest");
  const document = check(documentSchema, json, "manifest");
  // A document that reads as both would mean one thing here and another to whoever signed it (CVE-2021-41190).
  if (document.manifests !== undefined && document.layers !== undefined) {
    throw corrupt("manifest: it is an index and an image manifest at the same time");
  }
  switch (kindOf(document, contentType)) {
    case "index":
      return { kind: "index", index: check(indexSchema, json, "index") };
    case "manifest":
      return { kind: "manifest", manifest: checkManifest(check(manifestSchema, json, "manifest")) };
    case "schema1":
      throw unsupported(
        "the manifest has schema version 1, which cannot be verified",
        "Push the image again with a current tool: every one since 2016 writes schema version 2 or OCI.",
      );
    default:
      throw unsupported(
        `media type ${quoted(document.mediaType ?? contentType ?? "(none)")} is not a container image`,
        "The reference names something else, such as a chart, a signature or an SBOM.",
      );
  }
}

function kindOf(
  document: z.output<typeof documentSchema>,
  contentType: string | undefined,
): ManifestKind | undefined {
  if (document.schemaVersion === 1) return "schema1";
  if (document.mediaType !== undefined) return manifestKind(document.mediaType);
  const served = manifestKind(contentType);
  if (served !== undefined) return served;
  if (document.manifests !== undefined) return "index";
  return document.layers === undefined ? undefined : "manifest";
}

function checkManifest(manifest: ImageManifest): ImageManifest {
  if (!isImageConfig(manifest.config.mediaType)) {
    throw unsupported(
      `its config is ${quoted(manifest.config.mediaType)}: not a container image`,
      "The reference names something else, such as a chart, a signature or an SBOM.",
    );
  }
  const { maxLayers, maxConfigBytes, maxLayerBytes } = IMAGE_LIMITS;
  if (manifest.layers.length > maxLayers) throw tooBig(`${manifest.layers.length} layers`, maxLayers);
  if (manifest.config.size > maxConfigBytes)
    throw tooBig(`config of ${manifest.config.size} bytes`, maxConfigBytes);
  for (const layer of manifest.layers) checkLayer(layer, maxLayerBytes);
  return manifest;
}

function checkLayer(layer: Descriptor, maxBytes: number): void {
  if (isForeignLayer(layer.mediaType)) {
    throw unsupported(
      `layer ${layer.digest}: it is a foreign layer, which the registry does not serve`,
      "Foreign layers belong to Windows images; use a Linux image.",
    );
  }
  if (!isTarLayer(layer.mediaType)) {
    throw unsupported(
      `layer ${layer.digest}: media type ${quoted(layer.mediaType)} is not a filesystem layer`,
    );
  }
  if (layer.size > maxBytes) throw tooBig(`layer ${layer.digest} of ${layer.size} bytes`, maxBytes);
}

function tooBig(what: string, limit: number) {
  return overLimit(`${what}, more than the ${limit} allowed`);
}
