// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { DockerRegistry, withoutDockerRegistry } from "./testing/docker-registry.ts";
import { type SampleImage, sampleImage, sampleIndex, sampleTar } from "./testing/sample-image.ts";
import { failsWith, StoreFixture } from "./testing/store-fixture.ts";

const options = { skip: withoutDockerRegistry };

describe("a pull from the distribution project's registry", options, () => {
  const kinds: [string, SampleImage][] = [
    [
      "OCI, gzip",
      sampleImage({ layers: [1, 2, 3, 4, 5, 6].map((seed) => ({ tar: sampleTar(seed, 300_000) })) }),
    ],
    ["OCI, zstd", sampleImage({ layers: [{ tar: sampleTar(1, 2_000_000), compression: "zstd" }] })],
    ["OCI, uncompressed", sampleImage({ layers: [{ tar: sampleTar(1, 2_000_000), compression: "none" }] })],
    ["Docker", sampleImage({ docker: true })],
  ];
  it("works for every kind of image, by tag and by digest, and through an index", async () => {
    await using registry = await DockerRegistry.start();
    using fixture = new StoreFixture();
    for (const [kind, image] of kinds) {
      await registry.push("team/app", image, "v1");
      const stored = await fixture.store.pull(`${registry.host}/team/app:v1`, { policy: "always" });
      assert.equal(stored.id, image.digest, kind);
      fixture.assertLayersGenuine(stored);
      fixture.assertDisk(stored);
      fixture.store.remove(stored.id);
      const again = await fixture.store.pull(`${registry.host}/team/app@${image.digest}`);
      assert.equal(again.id, image.digest, kind);
    }
    const [, [, image] = ["", kinds[0]![1]]] = kinds;
    const index = sampleIndex([image]);
    // The registry wants every manifest of an index: attestations, too.
    const document = JSON.parse(index.bytes.toString()) as { manifests: object[] };
    const bytes = Buffer.from(JSON.stringify({ ...document, manifests: document.manifests.slice(0, 1) }));
    await registry.push("team/app", image);
    await registry.pushManifest("team/app", "multi", bytes, index.mediaType);
    const stored = await fixture.store.pull(`${registry.host}/team/app:multi`);
    assert.equal(stored.id, image.digest);
  });

  it("logs in with the stored password", async () => {
    const login = { username: "tess", password: "correct horse" };
    await using registry = await DockerRegistry.start({ login });
    using fixture = new StoreFixture();
    const image = sampleImage();
    await registry.push("private", image, "v1");
    const pull = () => fixture.store.pull(`${registry.host}/private:v1`);
    await assert.rejects(pull(), failsWith("IMAGE_UNAUTHORIZED", /authentication required/));
    const auth = Buffer.from("tess:wrong").toString("base64");
    writeFileSync(fixture.dockerConfig, JSON.stringify({ auths: { [registry.host]: { auth } } }));
    await assert.rejects(pull(), failsWith("IMAGE_UNAUTHORIZED", /authentication required/));
    writeFileSync(fixture.dockerConfig, JSON.stringify({ auths: { [registry.host]: login } }));
    assert.equal((await pull()).id, image.digest);
  });

  it("says that an image or a repository does not exist", async () => {
    await using registry = await DockerRegistry.start();
    using fixture = new StoreFixture();
    const pull = fixture.store.pull(`${registry.host}/no/such:thing`);
    await assert.rejects(pull, failsWith("IMAGE_NOT_FOUND", /not found: MANIFEST_UNKNOWN/));
  });
});
