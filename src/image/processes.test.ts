// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { FakeRegistry } from "./testing/fake-registry.ts";
import { sampleImage, sampleTar } from "./testing/sample-image.ts";
import { StoreFixture } from "./testing/store-fixture.ts";

const SCRIPT = fileURLToPath(new URL("./testing/pull-process.ts", import.meta.url));
const image = sampleImage({ layers: [1, 2, 3].map((seed) => ({ tar: sampleTar(seed, 3_000_000) })) });

describe("processes that share a store", () => {
  let registry: FakeRegistry;
  let reference: string;
  before(async () => {
    registry = await FakeRegistry.start();
    registry.add(image, "x");
    reference = `${registry.host}/a:x`;
  });
  after(() => registry[Symbol.asyncDispose]());

  const start = ({ storeDir }: StoreFixture): ChildProcess =>
    spawn(process.execPath, [SCRIPT, storeDir, reference], { stdio: ["ignore", "pipe", "pipe"] });

  it("pull the same image at once, all succeed, and there is one", { timeout: 60_000 }, async () => {
    using fixture = new StoreFixture();
    const outputs = await Promise.all(
      [1, 2, 3].map(async () => {
        const child = start(fixture);
        let text = "";
        child.stdout?.on("data", (chunk) => (text += chunk));
        const [code] = await once(child, "close");
        return { code, text };
      }),
    );
    assert.deepEqual(
      outputs,
      outputs.map(() => ({ code: 0, text: `${image.digest}\n` })),
    );
    const [only, ...others] = fixture.store.list();
    assert.equal(others.length, 0);
    fixture.assertLayersGenuine(only!);
    fixture.assertDisk(only!);
    fixture.assertNothingStaged();
  });

  it("may be killed at any moment: the next pull finds order", { timeout: 120_000 }, async () => {
    using fixture = new StoreFixture();
    // Slows the transfer, so that there are moments to be killed in.
    registry.intercept = (_, response, { path }) => {
      const bytes = image.blobs.get(path.split("/").at(-1) ?? "");
      if (!path.includes("/blobs/") || bytes === undefined || bytes.length < 10_000) return false;
      response.writeHead(200, { "content-length": bytes.length });
      let sent = 0;
      const timer = setInterval(() => {
        response.write(bytes.subarray(sent, sent + 50_000));
        sent += 50_000;
        if (sent >= bytes.length) {
          clearInterval(timer);
          response.end();
        }
      }, 10);
      response.once("close", () => clearInterval(timer));
      return true;
    };
    const reached: string[] = [];
    for (let round = 0; round < 8; round += 1) {
      const child = start(fixture);
      let events = "";
      child.stderr?.on("data", (chunk) => (events += chunk));
      // The moments that matter are after the first byte and around the end; in every third round, any moment.
      if (round % 3 !== 0) while (!/layer|done/.test(events) && child.exitCode === null) await sleep(1);
      const until = performance.now() + Math.random() * 600;
      while (performance.now() < until && child.exitCode === null) await sleep(1);
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      reached.push(events.trim().split("\n").at(-1) ?? "");
      for (const stored of fixture.store.list()) {
        fixture.assertLayersGenuine(stored);
        fixture.assertDisk(stored);
        fixture.store.remove(stored.id);
      }
    }
    assert.ok(reached.includes("layer"), `killed at ${reached}`);
    registry.intercept = () => false;
    const recovered = await fixture.store.pull(reference, { policy: "always" });
    assert.equal(recovered.id, image.digest);
    fixture.assertLayersGenuine(recovered);
    fixture.assertDisk(recovered);
    fixture.assertNothingStaged();
  });
});
