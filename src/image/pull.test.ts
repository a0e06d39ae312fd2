// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { digestOf } from "./digest.ts";
import type { PullEvent } from "./events.ts";
import { FakeRegistry } from "./testing/fake-registry.ts";
import { sampleImage, sampleIndex, sampleTar } from "./testing/sample-image.ts";
import { failsWith, StoreFixture } from "./testing/store-fixture.ts";

const host = process.arch === "x64" ? "amd64" : process.arch;
const big = sampleImage({ layers: [{ tar: sampleTar(1, 9_000_000) }, { tar: sampleTar(2, 700) }] });
const small = sampleImage();

describe("a pull", () => {
  let registry: FakeRegistry;
  let reference: string;
  before(async () => {
    registry = await FakeRegistry.start();
    reference = `${registry.host}/team/app:v1`;
  });
  after(() => registry[Symbol.asyncDispose]());
  beforeEach(() => {
    registry.add(small, "v1");
    registry.intercept = () => false;
    registry.requests.length = 0;
  });

  it("makes an image ready to boot, and tells what it is", async () => {
    using fixture = new StoreFixture();
    const image = await fixture.store.pull(reference);
    assert.equal(image.id, small.digest);
    assert.deepEqual(image.references, [reference]);
    assert.deepEqual(image.config.env, ["PATH=/bin"]);
    assert.deepEqual(image.config.cmd, ["/bin/true"]);
    assert.equal(image.platform, `linux/${host}`);
    assert.equal(image.builtAt, Date.parse("2024-02-03T04:05:06Z"));
    assert.deepEqual(
      image.layers.map(({ diffId }) => diffId),
      small.layers.map(({ diffId }) => diffId),
    );
    fixture.assertLayersGenuine(image);
    fixture.assertDisk(image);
    fixture.assertNothingStaged();
  });

  it("reports every layer from the first byte to the last", async () => {
    using fixture = new StoreFixture();
    const events: PullEvent[] = [];
    registry.add(big, "v1");
    await fixture.store.pull(reference, { onEvent: (event) => events.push(event) });
    assert.deepEqual(
      events.filter(({ type }) => type !== "layer").map(({ type }) => type),
      ["resolving", "resolved", "flattening", "done"],
    );
    for (const { digest } of big.layers) {
      const seen = events.flatMap((event) =>
        event.type === "layer" && event.digest === digest ? event : [],
      );
      assert.equal(seen[0]?.status, "downloading");
      assert.equal(seen[0]?.bytes, 0);
      assert.equal(seen.at(-1)?.status, "verified");
      assert.equal(seen.at(-1)?.bytes, seen.at(-1)?.total);
      assert.deepEqual(
        seen.map(({ bytes }) => bytes),
        seen.map(({ bytes }) => bytes).toSorted((a, b) => a - b),
      );
    }
  });

  it("asks nobody for an image that is here", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(reference);
    registry.requests.length = 0;
    const events: PullEvent[] = [];
    const again = await fixture.open().pull(reference, { onEvent: (event) => events.push(event) });
    const never = await fixture.store.pull(reference, { policy: "never" });
    const pinned = await fixture.store.pull(`${registry.host}/team/app@${small.digest}`, {
      policy: "always",
    });
    assert.deepEqual([again.id, never.id, pinned.id], [small.digest, small.digest, small.digest]);
    assert.deepEqual(events.at(-1), { type: "done", digest: small.digest, fromStore: true });
    assert.deepEqual(registry.requests, []);
  });

  it("with policy never says that an image is not here", async () => {
    using fixture = new StoreFixture();
    await assert.rejects(
      fixture.store.pull(reference, { policy: "never" }),
      failsWith("IMAGE_NOT_FOUND", /not in the store/),
    );
    assert.deepEqual(registry.requests, []);
  });

  it("with policy always asks what the tag means, with one HEAD if it means the same", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(reference, { policy: "always" });
    registry.requests.length = 0;
    await fixture.store.pull(reference, { policy: "always" });
    assert.deepEqual(
      registry.requests.map(({ method, path }) => `${method} ${path}`),
      ["HEAD /v2/team/app/manifests/v1"],
    );
  });

  it("with policy always fetches what is new, and only that", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(reference);
    const update = sampleImage({ layers: [{ tar: sampleTar(1) }, { tar: sampleTar(3) }] });
    registry.add(update, "v1");
    registry.requests.length = 0;
    const image = await fixture.store.pull(reference, { policy: "always" });
    assert.equal(image.id, update.digest);
    const layers = registry.requests.filter(({ path }) =>
      update.layers.some(({ digest }) => path.endsWith(digest)),
    );
    assert.deepEqual(
      layers.map(({ path }) => path.split("/").at(-1)),
      [update.layers[1]?.digest],
    );
    assert.equal(fixture.store.get(reference)?.id, update.digest);
    assert.deepEqual(fixture.store.get(small.digest)?.references, [], "the old image lost its name");
  });

  it("with policy always takes GET where a registry has no HEAD", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(reference);
    registry.intercept = (_, response, { method }) => {
      if (method === "HEAD") response.writeHead(405).end();
      return method === "HEAD";
    };
    assert.equal((await fixture.store.pull(reference, { policy: "always" })).id, small.digest);
  });

  for (const docker of [false, true]) {
    it(`chooses this platform's image from ${docker ? "a Docker manifest list" : "an OCI index"}`, async () => {
      using fixture = new StoreFixture();
      const images = ["s390x", "amd64", "arm64"].map((architecture, seed) =>
        sampleImage({
          docker,
          platform: { os: "linux", architecture },
          layers: [{ tar: sampleTar(seed + 20) }],
        }),
      );
      const index = sampleIndex(images, docker);
      for (const image of images) registry.add(image);
      registry.addManifest(index.bytes, index.mediaType, "v1");
      for (const [position, architecture] of ["s390x", "amd64", "arm64"].entries()) {
        const image = await fixture.store.pull(reference, { platform: `linux/${architecture}` });
        assert.equal(image.id, images[position]?.digest);
      }
      registry.requests.length = 0;
      const pinned = await fixture.store.pull(`${registry.host}/team/app@${index.digest}`, {
        platform: "arm64",
      });
      assert.equal(pinned.id, images[2]?.digest, "the index's digest leads to the same image");
      assert.deepEqual(registry.requests, []);
      assert.equal(fixture.store.list().length, 3);
    });
  }

  const tar = sampleTar(5, 500_000);
  const skippable = Buffer.from("502a4d1804000000deadbeef", "hex");
  const half = tar.length >> 1;
  const blobs: [string, Buffer, "gzip" | "zstd" | "none"][] = [
    ["gzip", gzipSync(tar), "gzip"],
    ["zstd", zstdCompressSync(tar), "zstd"],
    ["no compression", tar, "none"],
    [
      "several gzip members",
      Buffer.concat([gzipSync(tar.subarray(0, half)), gzipSync(tar.subarray(half))]),
      "gzip",
    ],
    [
      "many zstd frames, some to be skipped",
      Buffer.concat([
        skippable,
        ...Array.from({ length: Math.ceil(tar.length / 3000) }, (_, n) =>
          Buffer.concat([zstdCompressSync(tar.subarray(n * 3000, (n + 1) * 3000)), skippable]),
        ),
      ]),
      "zstd",
    ],
    ["gzip though its media type says zstd", gzipSync(tar), "zstd"],
    ["nothing though its media type says gzip", tar, "gzip"],
  ];
  for (const [title, blob, compression] of blobs) {
    it(`takes a layer compressed with ${title}`, async () => {
      using fixture = new StoreFixture();
      const digest = digestOf(blob);
      const image = sampleImage({
        layers: [{ tar, compression, blob, size: blob.length }],
        tweak: (manifest) => {
          (manifest.layers as { digest: string }[])[0]!.digest = digest;
        },
      });
      registry.add({ ...image, blobs: new Map([...image.blobs, [digest, blob]]) }, "v1");
      const stored = await fixture.store.pull(reference);
      assert.deepEqual(stored.layers, [{ diffId: digestOf(tar), size: tar.length }]);
      fixture.assertLayersGenuine(stored);
    });
  }

  it("takes an image without layers, and one with the same layer twice", async () => {
    using fixture = new StoreFixture();
    registry.add(sampleImage({ layers: [] }), "v1");
    assert.deepEqual((await fixture.store.pull(reference)).layers, []);
    registry.add(
      sampleImage({ layers: [{ tar: sampleTar(1) }, { tar: sampleTar(2) }, { tar: sampleTar(1) }] }),
      "v2",
    );
    registry.requests.length = 0;
    const twice = await fixture.store.pull(`${registry.host}/team/app:v2`);
    assert.equal(twice.layers.length, 3);
    assert.equal(
      registry.requests.filter(({ path }) => path.includes("/blobs/")).length,
      3,
      "config and two layers",
    );
    fixture.assertDisk(twice);
  });

  it("pads a layer to whole sectors", async () => {
    using fixture = new StoreFixture();
    const odd = sampleTar(1).subarray(0, -1024 - 100);
    registry.add(sampleImage({ layers: [{ tar: odd }] }), "v1");
    const image = await fixture.store.pull(reference);
    assert.equal(image.layers[0]?.size, odd.length);
    fixture.assertLayersGenuine(image);
    assert.equal(fixture.store.get(reference)?.id, image.id);
  });

  it("goes on where a connection broke, as often as it moves forward", async () => {
    using fixture = new StoreFixture();
    registry.add(big, "v1");
    const [{ digest } = { digest: "" }] = big.layers;
    const bytes = big.blobs.get(digest) ?? Buffer.alloc(0);
    registry.intercept = (_, response, { path, range }) => {
      if (!path.endsWith(digest)) return false;
      const start = Number(range?.slice("bytes=".length, -1) ?? 0);
      const end = Math.min(bytes.length, start + 1_200_000);
      response.writeHead(start === 0 ? 200 : 206, {
        "content-length": bytes.length - start,
        ...(start === 0 ? {} : { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
      });
      response.write(bytes.subarray(start, end), () => {
        if (end === bytes.length) response.end();
        else setTimeout(() => response.socket?.resetAndDestroy(), 30);
      });
      return true;
    };
    const events: PullEvent[] = [];
    const image = await fixture.store.pull(reference, { onEvent: (event) => events.push(event) });
    fixture.assertLayersGenuine(image);
    const ranges = registry.requests.flatMap(({ path, range }) =>
      path.endsWith(digest) && range ? range : [],
    );
    assert.ok(ranges.length >= 6, `resumed ${ranges.length} times`);
    const retry = events.find((event) => event.type === "layer" && event.status === "retrying");
    assert.match(retry?.type === "layer" ? (retry.reason ?? "") : "", /connection lost/);
  });

  it("goes on where a connection broke though the registry knows no ranges", async () => {
    using fixture = new StoreFixture();
    registry.add(big, "v1");
    const [{ digest } = { digest: "" }] = big.layers;
    const bytes = big.blobs.get(digest) ?? Buffer.alloc(0);
    let tries = 0;
    registry.intercept = (_, response, { path }) => {
      if (!path.endsWith(digest)) return false;
      tries += 1;
      response.writeHead(200, { "content-length": bytes.length });
      if (tries === 1)
        response.write(bytes.subarray(0, 2_500_000), () =>
          setTimeout(() => response.socket?.resetAndDestroy(), 30),
        );
      else response.end(bytes);
      return true;
    };
    const image = await fixture.store.pull(reference);
    assert.equal(tries, 2);
    fixture.assertLayersGenuine(image);
  });

  it("is patient with 500 and 429, and heeds Retry-After", async () => {
    using fixture = new StoreFixture();
    let failures = 0;
    registry.intercept = (_, response, { path }) => {
      if (!path.includes("/manifests/") || failures === 2) return false;
      failures += 1;
      response.writeHead(failures === 1 ? 500 : 429, failures === 1 ? {} : { "retry-after": "1" }).end();
      return true;
    };
    const started = performance.now();
    assert.equal((await fixture.store.pull(reference)).id, small.digest);
    assert.ok(performance.now() - started >= 1000);
  });

  it("does not try again what 404 answers", async () => {
    using fixture = new StoreFixture();
    await assert.rejects(
      fixture.store.pull(`${registry.host}/team/app:nope`),
      failsWith("IMAGE_NOT_FOUND", /manifest nope/),
    );
    assert.equal(registry.requests.length, 1);
  });

  it("shares one download between pulls of the same process", async () => {
    using fixture = new StoreFixture();
    registry.add(big, "v1");
    const images = await Promise.all(["v1", "v1", "v1"].map(() => fixture.store.pull(reference)));
    assert.deepEqual(
      images.map(({ id }) => id),
      [big.digest, big.digest, big.digest],
    );
    const downloads = registry.requests.filter(({ path }) => path.endsWith(big.layers[0]!.digest));
    assert.equal(downloads.length, 1);
    fixture.assertNothingStaged();
  });

  it("makes good what has vanished or shrunk in the store", async () => {
    using fixture = new StoreFixture();
    const { diskPath, layers } = await fixture.store.pull(reference);
    const layer = join(fixture.storeDir, "layers", "sha256", layers[0]!.diffId.slice(7));
    const damage = [
      () => rmSync(layer, { recursive: true }),
      () => rmSync(diskPath),
      () => rmSync(join(fixture.storeDir, "rootfs"), { recursive: true }),
      () => truncateSync(join(layer, "layer.tar"), 512),
    ];
    for (const spoil of damage) {
      spoil();
      assert.equal(fixture.store.get(reference), undefined);
      assert.deepEqual(fixture.store.list(), []);
      await assert.rejects(
        fixture.store.pull(reference, { policy: "never" }),
        failsWith("IMAGE_NOT_FOUND", /not in the store/),
      );
      const image = await fixture.store.pull(reference);
      fixture.assertLayersGenuine(image);
      fixture.assertDisk(image);
    }
  });
});
