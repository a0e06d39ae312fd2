// SPDX-License-Identifier: Apache-2.0
import * as z from "zod";
import { isDigest } from "../digest.ts";

/**
 * The documents of the OCI image-spec (and Docker's v2 schema 2, a subset) as they arrive. Unknown fields are
 * ignored, as the specification demands; `null` counts as absent, since Go programs write it.
 */
const optional = <T extends z.ZodType>(type: T) =>
  type
    .nullish()
    .transform((value) => value ?? undefined)
    .optional();

const digest = z.string().refine(isDigest, "not a sha256 or sha512 digest");
const byteCount = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const text = z.string();
const texts = z.array(text);
const annotations = z.record(z.string(), z.string());

const descriptor = z.object({
  mediaType: text,
  digest,
  size: byteCount,
  urls: optional(texts),
});

const platform = z.object({
  os: text,
  architecture: text,
  variant: optional(text),
});

export const indexSchema = z.object({
  schemaVersion: z.literal(2),
  manifests: z.array(
    descriptor.extend({
      platform: optional(platform),
      annotations: optional(annotations),
      artifactType: optional(text),
    }),
  ),
});

export const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  config: descriptor,
  layers: z.array(descriptor),
});

/** Only what decides which of the schemas applies. */
export const documentSchema = z.looseObject({
  schemaVersion: z.number(),
  mediaType: optional(text),
});

/** Keys of `ExposedPorts` and `Volumes` are the values; what they map to is always empty. */
const keySet = z.record(z.string(), z.unknown());

export const configSchema = z.object({
  os: optional(text),
  architecture: optional(text),
  variant: optional(text),
  created: optional(text),
  rootfs: z.object({ type: z.literal("layers"), diff_ids: z.array(digest) }),
  config: optional(
    z.object({
      Entrypoint: optional(texts),
      Cmd: optional(texts),
      Env: optional(texts),
      WorkingDir: optional(text),
      User: optional(text),
      StopSignal: optional(text),
      Hostname: optional(text),
      ExposedPorts: optional(keySet),
      Volumes: optional(keySet),
      Labels: optional(annotations),
    }),
  ),
});

export type Descriptor = z.output<typeof descriptor>;
export type ImageIndex = z.output<typeof indexSchema>;
export type IndexEntry = ImageIndex["manifests"][number];
export type ImageManifest = z.output<typeof manifestSchema>;
export type ImageConfigDocument = z.output<typeof configSchema>;
