// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Writes an OCI image layout (image-spec, image-layout.md) of uncompressed layers, tagged `latest`. */
export function writeOciLayout(directory: string, layers: readonly Buffer[]): void {
  const blobs = join(directory, "blobs", "sha256");
  mkdirSync(blobs, { recursive: true });
  const blob = (mediaType: string, bytes: Buffer) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));

  const descriptors = layers.map((layer) => blob("application/vnd.oci.image.layer.v1.tar", layer));
  const config = blob(
    "application/vnd.oci.image.config.v1+json",
    json({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: descriptors.map(({ digest }) => digest) },
    }),
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = blob(mediaType, json({ schemaVersion: 2, mediaType, config, layers: descriptors }));
  const annotations = { "org.opencontainers.image.ref.name": "latest" };
  writeFileSync(
    join(directory, "index.json"),
    json({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }),
  );
  writeFileSync(join(directory, "oci-layout"), json({ imageLayoutVersion: "1.0.0" }));
}
