// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { after, before, beforeEach, describe, it } from "node:test";
import { digestOf } from "./digest.ts";
import { FakeRegistry } from "./testing/fake-registry.ts";
import { good, onLayers, onManifests } from "./testing/hostile.ts";
import { failsWith, StoreFixture } from "./testing/store-fixture.ts";

describe("a pull that fails", () => {
  let registry: FakeRegistry;
  before(async () => {
    registry = await FakeRegistry.start();
  });
  after(() => registry[Symbol.asyncDispose]());
  beforeEach(() => {
    registry.add(good, "x", "good");
    registry.intercept = () => false;
  });

  it("says so when nothing listens", async () => {
    using fixture = new StoreFixture();
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const pull = fixture.store.pull(`127.0.0.1:${port}/x`);
    await assert.rejects(pull, failsWith("REGISTRY_UNREACHABLE", /connection refused/));
    fixture.assertEmpty();
  });

  it("says so when the registry has gone since the last pull", async () => {
    using fixture = new StoreFixture();
    const gone = await FakeRegistry.start();
    gone.add(good, "x");
    const reference = `${gone.host}/app:x`;
    await fixture.store.pull(reference);
    await gone[Symbol.asyncDispose]();
    const pull = fixture.store.pull(reference, { policy: "always" });
    await assert.rejects(pull, failsWith("REGISTRY_UNREACHABLE", /connection refused/));
    assert.equal((await fixture.store.pull(reference)).id, good.digest, "it is still here");
  });

  it("says so when the host does not exist", async () => {
    using fixture = new StoreFixture();
    const pull = fixture.store.pull("registry.invalid/x");
    await assert.rejects(pull, failsWith("REGISTRY_UNREACHABLE", /registry\.invalid: no such host/));
  });

  it("refuses a digest-pinned reference whose manifest is another", async () => {
    using fixture = new StoreFixture();
    const digest = digestOf("what was asked for");
    registry.intercept = onManifests((response) => response.end(good.manifest));
    const pull = fixture.store.pull(`${registry.host}/x@${digest}`);
    await assert.rejects(pull, failsWith("IMAGE_CORRUPT", /manifest sha256:\w+: digest mismatch/));
    fixture.assertEmpty();
  });

  it("refuses a GET that is not what HEAD announced", async () => {
    using fixture = new StoreFixture();
    const reference = `${registry.host}/some/image:good`;
    await fixture.store.pull(reference);
    const announced = digestOf("a newer image");
    registry.intercept = onManifests((response, { method }) => {
      if (method === "HEAD") response.writeHead(200, { "docker-content-digest": announced }).end();
      else response.end(good.manifest);
    });
    const pull = fixture.store.pull(reference, { policy: "always" });
    await assert.rejects(pull, failsWith("IMAGE_CORRUPT", /digest mismatch/));
    assert.equal(fixture.store.get(reference)?.id, good.digest, "what was there is still there");
  });

  it("ends at once when it is cancelled, and leaves nothing", async () => {
    using fixture = new StoreFixture();
    registry.intercept = onLayers((response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(10));
    });
    const started = performance.now();
    const pull = fixture.store.pull(`${registry.host}/x:x`, { signal: AbortSignal.timeout(200) });
    await assert.rejects(pull, failsWith("TIMEOUT", /timed out/));
    assert.ok(performance.now() - started < 900);
    fixture.assertEmpty();
    await assert.rejects(
      fixture.store.pull(`${registry.host}/x:x`, { signal: AbortSignal.abort() }),
      failsWith("ABORTED", /aborted/),
    );
  });

  it("says what is wrong with a broken login file", async () => {
    using fixture = new StoreFixture();
    writeFileSync(fixture.dockerConfig, '{"auths": {"x": {"auth": "secret');
    const pull = fixture.store.pull(`${registry.host}/x:x`);
    await assert.rejects(pull, failsWith("INVALID_OPTION", /config\.json: not JSON$/));
  });
});
