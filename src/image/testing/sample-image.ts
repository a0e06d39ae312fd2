// SPDX-License-Identifier: Apache-2.0
import { gzipSync, zstdCompressSync } from "node:zlib";
import { digestOf } from "../digest.ts";
import { pattern } from "./layers.ts";
import { tar } from "./tar-writer.ts";

/** A layer to put into an image, right or wrong: every field can be overridden with a lie. */
export interface SampleLayer {
  readonly tar: Buffer;
  readonly compression?: "gzip" | "zstd" | "none";
  /** Stored under the digest it should have had. */
  readonly blob?: Buffer;
  readonly diffId?: string;
  readonly mediaType?: string;
  readonly size?: number;
}

export interface SampleImageOptions {
  readonly layers?: readonly SampleLayer[];
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
  readonly config?: unknown;
  /** Docker's media types instead of OCI's. */
  readonly docker?: boolean;
  /** Changes the manifest before it is serialised. */
  readonly tweak?: (manifest: Record<string, unknown>) => void;
}

/** An image as a registry holds it: documents by digest. */
export interface SampleImage {
  readonly digest: string;
  readonly mediaType: string;
  readonly manifest: Buffer;
  readonly platform: { readonly os: string; readonly architecture: string; readonly variant?: string };
  readonly blobs: ReadonlyMap<string, Buffer>;
  /** Digests of the layers' blobs, and of their tars. */
  readonly layers: readonly { readonly digest: string; readonly diffId: string }[];
}

const MEDIA_TYPES = {
  oci: {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    index: "application/vnd.oci.image.index.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar",
  },
  docker: {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar",
  },
};

/** A tar of a few files that no other seed makes; `bytes` of them do not compress. */
export function sampleTar(seed: number, bytes = 40_000): Buffer {
  return tar([
    { type: "5", path: `dir${seed}/` },
    { path: `dir${seed}/data`, data: pattern(bytes, seed + 1) },
    { path: `dir${seed}/text`, data: `layer ${seed}\n`.repeat(300) },
  ]);
}

export function sampleImage(options: SampleImageOptions = {}): SampleImage {
  const { layers = [{ tar: sampleTar(1) }, { tar: sampleTar(2) }], docker = false } = options;
  const platform = options.platform ?? {
    os: "linux",
    architecture: process.arch === "x64" ? "amd64" : process.arch,
  };
  const types = docker ? MEDIA_TYPES.docker : MEDIA_TYPES.oci;
  const blobs = new Map<string, Buffer>();
  const made = layers.map((layer) => {
    const { compression = "gzip" } = layer;
    const good = compress(layer.tar, compression);
    const digest = digestOf(good);
    blobs.set(digest, layer.blob ?? good);
    const suffix = compression === "none" ? "" : docker ? `.${compression}` : `+${compression}`;
    const descriptor = {
      mediaType: layer.mediaType ?? types.layer + suffix,
      digest,
      size: layer.size ?? (layer.blob ?? good).length,
    };
    return { descriptor, diffId: layer.diffId ?? digestOf(layer.tar) };
  });
  const config = json({
    ...platform,
    created: "2024-02-03T04:05:06Z",
    config: options.config ?? { Env: ["PATH=/bin"], Cmd: ["/bin/true"] },
    rootfs: { type: "layers", diff_ids: made.map(({ diffId }) => diffId) },
  });
  blobs.set(digestOf(config), config);
  const document: Record<string, unknown> = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: { mediaType: types.config, digest: digestOf(config), size: config.length },
    layers: made.map(({ descriptor }) => descriptor),
  };
  options.tweak?.(document);
  const manifest = json(document);
  return {
    digest: digestOf(manifest),
    mediaType: types.manifest,
    manifest,
    platform,
    blobs,
    layers: made.map(({ descriptor: { digest }, diffId }) => ({ digest, diffId })),
  };
}

/** An index of images, with an attestation beside each as BuildKit writes them. */
export function sampleIndex(images: readonly SampleImage[], docker = false) {
  const entries = images.flatMap(({ digest, mediaType, manifest, platform }) => [
    { mediaType, digest, size: manifest.length, platform },
    {
      mediaType,
      digest: digestOf(`attestation of ${digest}`),
      size: 1,
      platform: { os: "unknown", architecture: "unknown" },
      annotations: {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": digest,
      },
    },
  ]);
  const mediaType = docker ? MEDIA_TYPES.docker.index : MEDIA_TYPES.oci.index;
  const bytes = json({ schemaVersion: 2, mediaType, manifests: entries });
  return { digest: digestOf(bytes), mediaType, bytes };
}

function compress(bytes: Buffer, compression: "gzip" | "zstd" | "none"): Buffer {
  if (compression === "none") return bytes;
  return compression === "gzip" ? gzipSync(bytes) : zstdCompressSync(bytes);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
