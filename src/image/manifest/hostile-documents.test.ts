// SPDX-License-Identifier: Apache-2.0
import { digestOf } from "../digest.ts";
import type { FakeRegistry } from "../testing/fake-registry.ts";
import { answering, describeHostile, good, type HostileCase, onManifests } from "../testing/hostile.ts";
import { sampleImage, sampleIndex } from "../testing/sample-image.ts";

const goodConfig = JSON.parse(good.manifest.toString()).config as { digest: string; size: number };
const other = process.arch === "x64" ? "arm64" : "amd64";

const documents: HostileCase[] = [
  {
    title: "an oversized manifest of announced length",
    serve: (registry) => registry.addManifest(Buffer.alloc(5 * 2 ** 20, " "), good.mediaType, "x"),
    code: "IMAGE_LIMIT",
    message: /manifest x: longer than the 4194304 bytes allowed/,
  },
  {
    title: "an oversized manifest of unannounced length",
    intercept: onManifests((response) => {
      response.writeHead(200, { "content-type": good.mediaType });
      for (let n = 0; n < 100; n += 1) response.write(Buffer.alloc(2 ** 20, " "));
    }),
    code: "IMAGE_LIMIT",
    message: /manifest x: longer than the 4194304 bytes allowed/,
  },
  {
    title: "a manifest that is not what its digest header says",
    intercept: onManifests((response) => {
      response.writeHead(200, { "docker-content-digest": digestOf("something else") }).end(good.manifest);
    }),
    code: "IMAGE_CORRUPT",
    message: /manifest x: digest mismatch/,
  },
  ...(
    [
      ["that is not JSON", "<html>", "IMAGE_CORRUPT", /manifest: not JSON, it starts with "<html>"/],
      [
        "of schema version 1",
        '{"schemaVersion":1,"name":"x","fsLayers":[]}',
        "IMAGE_UNSUPPORTED",
        /schema version 1/,
      ],
      [
        "that is an index as well",
        '{"schemaVersion":2,"manifests":[],"layers":[]}',
        "IMAGE_CORRUPT",
        /at the same time/,
      ],
      [
        "of another kind",
        '{"schemaVersion":2,"mediaType":"application/json"}',
        "IMAGE_UNSUPPORTED",
        /"application\/json" is not a container image/,
      ],
      [
        "without layers",
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}',
        "IMAGE_CORRUPT",
        /manifest: "config"/,
      ],
      ["nested without end", `${'{"schemaVersion":'.repeat(50_000)}`, "IMAGE_CORRUPT", /not JSON/],
      ["that is an array", "[]", "IMAGE_CORRUPT", /manifest: /],
    ] as const
  ).map(([title, text, code, message]) => ({
    title: `a manifest ${title}`,
    serve: (registry: FakeRegistry) => registry.addManifest(Buffer.from(text), "application/json", "x"),
    code,
    message,
  })),
  ...(
    [
      [
        "a path for a digest",
        { digest: `sha256:../../${"0".repeat(58)}` },
        "IMAGE_CORRUPT",
        /"layers.0.digest": not a sha256/,
      ],
      ["a negative size", { size: -1 }, "IMAGE_CORRUPT", /"layers.0.size"/],
      [
        "a size beyond all limits",
        { size: 2 ** 50 },
        "IMAGE_LIMIT",
        /layer sha256:\w+ of 1125899906842624 bytes/,
      ],
      [
        "a foreign layer",
        { mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" },
        "IMAGE_UNSUPPORTED",
        /foreign layer/,
      ],
      [
        "a layer that is no tar",
        { mediaType: "application/vnd.oci.image.layer.v1.squashfs" },
        "IMAGE_UNSUPPORTED",
        /is not a filesystem layer/,
      ],
    ] as const
  ).map(([title, lie, code, message]) => ({
    title: `a manifest with ${title}`,
    image: sampleImage({
      tweak: (manifest) => {
        const layers = manifest.layers as object[];
        manifest.layers = [{ ...layers[0], ...lie }, layers[1]];
      },
    }),
    code,
    message,
  })),
  {
    title: "more layers than anyone needs",
    image: sampleImage({
      tweak: (manifest) => {
        manifest.layers = Array.from({ length: 300 }, () => (manifest.layers as object[])[0]);
      },
    }),
    code: "IMAGE_LIMIT",
    message: /300 layers, more than the 256 allowed/,
  },
  {
    title: "another number of DiffIDs than layers",
    image: sampleImage({
      tweak: (manifest) => {
        manifest.layers = (manifest.layers as object[]).slice(1);
      },
    }),
    code: "IMAGE_CORRUPT",
    message: /config: 2 diff_ids for 1 layers/,
  },
  {
    title: "a config of another artifact",
    image: sampleImage({
      tweak: (manifest) => {
        (manifest.config as { mediaType: string }).mediaType = "application/vnd.cncf.helm.config.v1+json";
      },
    }),
    code: "IMAGE_UNSUPPORTED",
    message: /its config is "application\/vnd.cncf.helm.config.v1\+json": not a container image/,
  },
  {
    title: "a config whose bytes are not its digest's",
    intercept: answering(
      (path) => path.endsWith(goodConfig.digest),
      (response) => response.writeHead(200).end(Buffer.alloc(goodConfig.size, " ")),
    ),
    code: "IMAGE_CORRUPT",
    message: /config sha256:\w+: config: digest mismatch/,
  },
];

const platforms: HostileCase[] = [
  {
    title: "an image for another platform",
    image: sampleImage({ platform: { os: "linux", architecture: other } }),
    code: "IMAGE_UNSUPPORTED",
    message: new RegExp(`no image for linux/\\w+; offered: linux/${other}$`),
  },
  {
    title: "an index without this platform",
    serve: (registry) => {
      const images = ["ppc64le", "s390x"].map((architecture) =>
        sampleImage({ platform: { os: "linux", architecture } }),
      );
      const index = sampleIndex(images);
      registry.addManifest(index.bytes, index.mediaType, "x");
    },
    code: "IMAGE_UNSUPPORTED",
    message: /no image for linux\/\w+; offered: linux\/ppc64le, linux\/s390x$/,
  },
  {
    title: "an index that nests for ever",
    serve: (registry) => {
      let entry = { mediaType: good.mediaType, digest: good.digest, size: good.manifest.length };
      const mediaType = "application/vnd.oci.image.index.v1+json";
      for (let depth = 0; depth < 6; depth += 1) {
        const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests: [entry] }));
        registry.addManifest(bytes, mediaType, "x");
        entry = { mediaType, digest: digestOf(bytes), size: bytes.length };
      }
    },
    code: "IMAGE_UNSUPPORTED",
    message: /nested more than 3 deep/,
  },
];

describeHostile("a registry's documents", documents);
describeHostile("a registry's platforms", platforms);
