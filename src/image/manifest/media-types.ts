// SPDX-License-Identifier: Apache-2.0

/** Kinds of document a registry serves under `manifests/`. */
export type ManifestKind = "index" | "manifest" | "schema1";

const KINDS: ReadonlyMap<string, ManifestKind> = new Map([
  ["application/vnd.oci.image.index.v1+json", "index"],
  ["application/vnd.docker.distribution.manifest.list.v2+json", "index"],
  ["application/vnd.oci.image.manifest.v1+json", "manifest"],
  ["application/vnd.docker.distribution.manifest.v2+json", "manifest"],
  ["application/vnd.docker.distribution.manifest.v1+json", "schema1"],
  ["application/vnd.docker.distribution.manifest.v1+prettyjws", "schema1"],
]);

const CONFIGS: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
]);

/** What the registry is asked for. Schema 1 is left out, so that a registry which can convert does. */
export const MANIFEST_ACCEPT = [...KINDS]
  .flatMap(([type, kind]) => (kind === "schema1" ? [] : type))
  .join(", ");

/** The kind a media type stands for, parameters such as `; charset=utf-8` ignored. */
export function manifestKind(mediaType: string | undefined): ManifestKind | undefined {
  return KINDS.get(essence(mediaType));
}

/** Whether `mediaType` is that of a container image's config, and not of a chart, a signature or an SBOM. */
export function isImageConfig(mediaType: string): boolean {
  return CONFIGS.has(essence(mediaType));
}

/** Whether a layer is one that registries do not serve. Source: OCI image-spec, layer.md, "Non-Distributable Layers". */
export function isForeignLayer(mediaType: string): boolean {
  return /(?:\.nondistributable\.|\.rootfs\.foreign\.)/.test(mediaType);
}

/**
 * Whether a layer may be a filesystem changeset. The compression is not taken from here: media types lie, so
 * it is read off the blob's first bytes.
 */
export function isTarLayer(mediaType: string): boolean {
  return /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:[.+](?:gzip|zstd))?$/.test(
    essence(mediaType),
  );
}

function essence(mediaType: string | undefined): string {
  return (mediaType ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}
