// SPDX-License-Identifier: Apache-2.0
import { gzipSync, zstdCompressSync } from "node:zlib";
import { digestOf } from "../digest.ts";
import { answering, describeHostile, type HostileCase, onLayers } from "../testing/hostile.ts";
import { pattern } from "../testing/layers.ts";
import { type SampleImage, sampleImage, sampleTar } from "../testing/sample-image.ts";

const tar = sampleTar(9);
const gzip = gzipSync(tar);

const blobs: HostileCase[] = [
  {
    title: "a tampered blob",
    image: sampleImage({
      layers: [{ tar, blob: Buffer.concat([gzip.subarray(0, -1), Buffer.of(gzip.at(-1)! ^ 1)]) }],
    }),
    code: "IMAGE_CORRUPT",
    message: /layer sha256:\w+: digest mismatch: expected sha256:\w+, got sha256:\w+$/,
  },
  {
    title: "a blob that is another, genuine layer",
    image: sampleImage({ layers: [{ tar, blob: gzipSync(sampleTar(8)) }] }),
    code: "IMAGE_CORRUPT",
    message: /digest mismatch/,
  },
  {
    title: "a lying DiffID",
    image: sampleImage({ layers: [{ tar, diffId: digestOf(sampleTar(1, 200_000)) }] }),
    code: "IMAGE_CORRUPT",
    message: /diff id mismatch: the config says sha256:\w+, the layer is sha256:\w+$/,
  },
  {
    title: "a blob shorter than the manifest says",
    image: sampleImage({ layers: [{ tar, size: gzip.length + 5 }] }),
    code: "IMAGE_CORRUPT",
    message: /size mismatch: the manifest says \d+ bytes, the registry has \d+/,
  },
  {
    title: "a blob longer than the manifest says, of unannounced length",
    image: sampleImage({ layers: [{ tar, size: gzip.length - 5 }] }),
    intercept: answering(
      (path) => path.endsWith(digestOf(gzip)),
      (response) => {
        response.writeHead(200);
        response.write(gzip.subarray(0, 100));
        response.end(gzip.subarray(100));
      },
    ),
    code: "IMAGE_CORRUPT",
    message: /longer than the \d+ bytes the manifest says/,
  },
  {
    title: "an endless blob",
    intercept: onLayers((response) => {
      response.writeHead(200);
      const pump = () => {
        while (response.write(Buffer.alloc(65_536))) if (response.destroyed) return;
        response.once("drain", pump);
      };
      pump();
    }),
    code: "IMAGE_CORRUPT",
    message: /longer than the \d+ bytes/,
  },
  {
    title: "a stream that always ends early",
    intercept: onLayers((response, { range }) => {
      if (range) response.writeHead(206, { "content-range": `bytes ${range.slice(6)}9/*` }).end();
      else response.writeHead(200).end(Buffer.alloc(10));
    }),
    code: "REGISTRY_ERROR",
    message: /layer sha256:\w+: ended after 10 of \d+ bytes/,
  },
  {
    title: "a range nobody asked for",
    intercept: onLayers((response, { range }) => {
      if (range) response.writeHead(206, { "content-range": "bytes 1-2/99999" }).end("xx");
      else response.writeHead(200).end(Buffer.alloc(10));
    }),
    code: "IMAGE_CORRUPT",
    message: /answers with a range nobody asked for/,
  },
  {
    title: "a blob with a content encoding",
    intercept: onLayers((response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzip);
    }),
    code: "IMAGE_CORRUPT",
    message: /content-encoding gzip/,
  },
];

const contents: HostileCase[] = [
  ...(
    [
      ["bytes after the gzip stream", Buffer.concat([gzip, Buffer.from("garbage")]), /gzip: /],
      [
        "zeros after the gzip stream",
        Buffer.concat([gzip, Buffer.alloc(100)]),
        /gzip: garbage after the end/,
      ],
      ["a truncated gzip stream", gzip.subarray(0, -20), /gzip: unexpected end/],
      ["a truncated second gzip member", Buffer.concat([gzip, gzip.subarray(0, 30)]), /gzip: unexpected end/],
      [
        "bytes after the zstd stream",
        Buffer.concat([zstdCompressSync(tar), Buffer.from("garbage")]),
        /zstd: garbage after/,
      ],
      ["a truncated zstd stream", zstdCompressSync(tar).subarray(0, -20), /zstd: unexpected end/],
      ["a blob that is not even a tar", pattern(5000), /tar: /],
      [
        "garbage after the end of the tar",
        gzipSync(Buffer.concat([tar, pattern(512)])),
        /tar: byte \d+: garbage after the end of the archive/,
      ],
      ["a truncated tar", gzipSync(tar.subarray(0, 5000)), /unexpected end of the archive/],
      ["an empty blob", Buffer.alloc(0), /diff id mismatch/],
    ] as const
  ).map(([title, blob, message]) => ({
    title,
    // Genuine as far as its digests go: the damage is in what was signed.
    image: madeOf(blob, tar),
    code: "IMAGE_CORRUPT" as const,
    message,
  })),
  {
    title: "a layer compressed with xz",
    image: madeOf(Buffer.from("fd377a585a000004e6d6b446", "hex"), tar),
    code: "IMAGE_UNSUPPORTED",
    message: /compressed with xz/,
  },
  {
    title: "a decompression bomb",
    image: madeOf(bomb(), tar),
    code: "IMAGE_LIMIT",
    message: /decompresses to more than 200 times its size/,
  },
];

/** 1.1 GiB of zeros in as many gzip members as it takes. */
function bomb(): Buffer {
  const member = gzipSync(Buffer.alloc(2 ** 26));
  return Buffer.concat(Array.from({ length: 18 }, () => member));
}

/** An image with one layer of these bytes, under their own digest: what is wrong with them was meant to be. */
function madeOf(blob: Buffer, content: Buffer): SampleImage {
  const digest = digestOf(blob);
  const image = sampleImage({
    layers: [{ tar: content, blob, size: blob.length }],
    tweak: (manifest) => {
      (manifest.layers as { digest: string }[])[0]!.digest = digest;
    },
  });
  return {
    ...image,
    blobs: new Map([...image.blobs, [digest, blob]]),
    layers: [{ digest, diffId: digestOf(content) }],
  };
}

describeHostile("a registry's blobs", blobs);
describeHostile("a layer's contents", contents);
