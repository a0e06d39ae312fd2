// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, it } from "node:test";
import { StoreLayout } from "./layout.ts";
import { Staging, sweepStaging } from "./staging.ts";
import { FakeRegistry } from "./testing/fake-registry.ts";
import { sampleImage, sampleTar } from "./testing/sample-image.ts";
import { failsWith, StoreFixture } from "./testing/store-fixture.ts";

const base = { tar: sampleTar(1) };
const first = sampleImage({ layers: [base, { tar: sampleTar(2) }] });
const second = sampleImage({ layers: [base, { tar: sampleTar(3) }] });
/** The layers of the first in another manifest. */
const twin = sampleImage({ layers: [base, { tar: sampleTar(2) }], config: { Cmd: ["/bin/false"] } });

describe("an image store", () => {
  let registry: FakeRegistry;
  let name: (tag: string) => string;
  before(async () => {
    registry = await FakeRegistry.start();
    registry.add(first, "first", "also-first");
    registry.add(second, "second");
    registry.add(twin, "twin");
    name = (tag) => `${registry.host}/app:${tag}`;
  });
  after(() => registry[Symbol.asyncDispose]());

  const layerCount = ({ storeDir }: StoreFixture) => readdirSync(join(storeDir, "layers", "sha256")).length;
  const blobCount = ({ storeDir }: StoreFixture) => readdirSync(join(storeDir, "blobs", "sha256")).length;

  it("is private to its user", async () => {
    using fixture = new StoreFixture();
    const { diskPath } = await fixture.store.pull(name("first"));
    assert.equal(statSync(fixture.storeDir).mode & 0o077, 0);
    assert.equal(statSync(diskPath).mode & 0o077, 0);
  });

  it("finds images by name, id and start of the id", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    await store.pull(name("first"));
    const hex = first.digest.slice("sha256:".length);
    for (const key of [name("first"), first.digest, hex, hex.slice(0, 12), `sha256:${hex.slice(0, 12)}`]) {
      assert.equal(store.get(key)?.id, first.digest, key);
    }
    for (const key of [
      "",
      "nothing",
      "sha256:",
      "%",
      "0".repeat(64),
      hex.slice(0, 3),
      name("second"),
      "A B",
    ]) {
      assert.equal(store.get(key), undefined, key);
    }
    assert.equal(store.get(name("first"), "linux/s390x"), undefined);
  });

  it("lists images, the last pulled first, with all their names", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    assert.deepEqual(store.list(), []);
    await store.pull(name("first"));
    await store.pull(name("also-first"));
    await store.pull(name("second"));
    assert.deepEqual(
      store.list().map(({ id, references }) => [id, references]),
      [
        [second.digest, [name("second")]],
        [first.digest, [name("also-first"), name("first")]],
      ],
    );
  });

  it("shares layers and root file systems between images", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    const images = [
      await store.pull(name("first")),
      await store.pull(name("twin")),
      await store.pull(name("second")),
    ];
    assert.equal(images[0]?.diskPath, images[1]?.diskPath);
    assert.notEqual(images[0]?.diskPath, images[2]?.diskPath);
    assert.deepEqual(images[1]?.config.cmd, ["/bin/false"]);
    assert.equal(layerCount(fixture), 3);
  });

  it("removes a name, and the image with its last name; what others share stays", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    for (const tag of ["first", "also-first", "twin", "second"]) await store.pull(name(tag));
    const untagged = store.remove(name("first"));
    assert.deepEqual(untagged, {
      id: first.digest,
      untagged: [name("first")],
      deleted: false,
      freedBytes: 0,
    });
    assert.equal(store.get(name("first")), undefined);

    const removed = store.remove(name("also-first"));
    assert.deepEqual([removed.deleted, layerCount(fixture)], [true, 3]);
    assert.ok(existsSync(store.get(name("twin"))!.diskPath));

    assert.ok(store.remove(twin.digest).freedBytes > sampleTar(2).length);
    assert.equal(layerCount(fixture), 2);
    store.remove(name("second"));
    assert.deepEqual([layerCount(fixture), blobCount(fixture), store.list().length], [0, 0, 0]);
    assert.deepEqual(readdirSync(join(fixture.storeDir, "rootfs", "sha256")), []);
    fixture.assertNothingStaged();
    assert.throws(() => store.remove(name("second")), failsWith("IMAGE_NOT_FOUND", /no such image/));
  });

  it("removes by name what was pulled for another platform", async () => {
    using fixture = new StoreFixture();
    const foreign = sampleImage({ platform: { os: "linux", architecture: "s390x" } });
    registry.add(foreign, "foreign");
    await fixture.store.pull(name("foreign"), { platform: "linux/s390x" });
    assert.equal(fixture.store.get(name("foreign")), undefined);
    assert.equal(fixture.store.remove(name("foreign")).id, foreign.digest);
  });

  it("keeps an image for as long as a holder's directory exists", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    const { id, diskPath } = await store.pull(name("first"));
    const holders = ["vm1", "vm2"].map((vm) => join(fixture.dir, vm));
    for (const holder of holders) {
      mkdirSync(holder);
      store.lease(id, holder);
      store.lease(id, holder);
    }
    const inUse = failsWith("IMAGE_IN_USE", /remove .*: in use by .*vm1 and 1 more$/);
    assert.throws(() => store.remove(name("first")), inUse);
    assert.throws(() => store.remove(id), inUse);
    assert.deepEqual(store.get(id)?.references, [name("first")], "nothing was taken off");

    rmSync(holders[0]!, { recursive: true });
    assert.throws(() => store.remove(id), failsWith("IMAGE_IN_USE", /in use by .*vm2$/));
    store.release(holders[1]!);
    assert.equal(store.remove(id).deleted, true);
    assert.equal(existsSync(diskPath), false);
  });

  it("removes an image in use when it must, and leases none that is gone", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    const { id } = await store.pull(name("first"));
    store.lease(id, fixture.dir);
    assert.equal(store.remove(id, { force: true }).deleted, true);
    assert.throws(() => store.lease(id, fixture.dir), failsWith("IMAGE_NOT_FOUND", /no such image/));
    await store.pull(name("first"));
    assert.equal(store.remove(id).deleted, true, "the lease went with the image");
  });

  it("takes a name off a used image that has another", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    const { id } = await store.pull(name("first"));
    await store.pull(name("also-first"));
    store.lease(id, fixture.dir);
    assert.equal(store.remove(name("first")).deleted, false);
  });

  it("verifies again what a pull that failed has left", async () => {
    using fixture = new StoreFixture();
    const { store } = fixture;
    await store.pull(name("second"));
    const layers = join(fixture.storeDir, "layers", "sha256");
    const left = sampleTar(2);
    const [, { diffId } = { diffId: "" }] = first.layers;
    const dir = join(layers, diffId.slice("sha256:".length));
    const layerRequests = async () => {
      registry.requests.length = 0;
      await store.pull(name("first"));
      fixture.assertLayersGenuine(store.get(name("first"))!);
      store.remove(name("first"));
      return registry.requests.filter(({ path }) => first.layers.some(({ digest }) => path.endsWith(digest)))
        .length;
    };
    mkdirSync(dir);
    writeFileSync(join(dir, "layer.tar"), left);
    assert.equal(await layerRequests(), 0);
    left[600]! ^= 1;
    mkdirSync(dir);
    writeFileSync(join(dir, "layer.tar"), left);
    assert.equal(await layerRequests(), 1);
    mkdirSync(dir);
    assert.equal(await layerRequests(), 1);
  });

  it("fetches a stored document again that is not what it was", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(name("first"));
    for (const blob of readdirSync(join(fixture.storeDir, "blobs", "sha256"))) {
      writeFileSync(join(fixture.storeDir, "blobs", "sha256", blob), "{}");
    }
    registry.requests.length = 0;
    const image = await fixture.store.pull(name("first"), { policy: "always" });
    assert.equal(image.id, first.digest);
    assert.equal(registry.requests.filter(({ method }) => method === "GET").length, 2);
  });

  it("says so when the catalog is of a newer release, or none", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(name("first"));
    fixture.store[Symbol.dispose]();
    const catalog = join(fixture.storeDir, "catalog.db");
    const db = new DatabaseSync(catalog);
    db.exec("PRAGMA user_version = 99");
    db.close();
    assert.throws(() => fixture.store.list(), failsWith("STATE_CORRUPT", /newer release \(schema 99\)/));
    await assert.rejects(fixture.store.pull(name("first")), failsWith("STATE_CORRUPT", /newer release/));
    for (const file of ["catalog.db", "catalog.db-wal", "catalog.db-shm"])
      rmSync(join(fixture.storeDir, file), { force: true });
    writeFileSync(catalog, "this is no database, but it is long enough to look like one".repeat(100));
    assert.throws(() => fixture.store.list(), failsWith("STATE_CORRUPT", /catalog\.db: /));
  });

  it("loads nothing that a warm start does not need", async () => {
    using fixture = new StoreFixture();
    await fixture.store.pull(name("first"));
    const script = `
      import { registerHooks } from "node:module";
      const loaded = [];
      registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context); } });
      const { ImageStore } = await import(${JSON.stringify(new URL("./index.ts", import.meta.url).href)});
      await new ImageStore({ dir: ${JSON.stringify(fixture.storeDir)} }).pull(${JSON.stringify(name("first"))});
      console.log(JSON.stringify(loaded.filter((url) => /undici|zod|registry-source|\\/tar\\/|flatten/.test(url))));`;
    const output = execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
      encoding: "utf8",
    });
    assert.equal(output, "[]\n");
  });
});

describe("staging", () => {
  it("sweeps what dead processes left, and nothing else", async () => {
    using fixture = new StoreFixture();
    const layout = new StoreLayout(fixture.storeDir);
    const staging = Staging.create(layout);
    const dead = ["999999999-1-aa", "1-0-bb", `${process.pid}-1-cc`, "garbage", "-", ".x"];
    for (const name of dead) mkdirSync(join(layout.staging, name, "layer-1"), { recursive: true });
    await sweepStaging(layout);
    assert.deepEqual(
      readdirSync(layout.staging).map((entry) => join(layout.staging, entry)),
      [staging.dir],
    );
    await staging[Symbol.asyncDispose]();
    fixture.assertNothingStaged();
  });
});
