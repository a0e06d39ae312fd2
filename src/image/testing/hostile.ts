// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, beforeEach, describe, it } from "node:test";
import type { ErrorCode } from "../../errors.ts";
import { FakeRegistry, type Intercept, type SeenRequest } from "./fake-registry.ts";
import { type SampleImage, sampleImage, sampleTar } from "./sample-image.ts";
import { failsWith, StoreFixture } from "./store-fixture.ts";

/** What a pull must come to when the registry serves something wicked. */
export interface HostileCase {
  /** Completes "when it serves …". */
  readonly title: string;
  /** Served as the tag `x` instead of the good image. */
  readonly image?: SampleImage;
  readonly serve?: (registry: FakeRegistry) => void;
  readonly intercept?: Intercept;
  readonly code: ErrorCode;
  readonly message: RegExp;
}

/** What every registry here serves as `good`, and as `x` unless a case says otherwise. */
export const good = sampleImage({ layers: [{ tar: sampleTar(1, 200_000) }, { tar: sampleTar(2) }] });

type Answer = (response: ServerResponse, seen: SeenRequest) => void;

/** Answers the requests whose path matches. */
export function answering(matches: (path: string) => boolean, answer: Answer): Intercept {
  return (_, response, seen) => {
    if (!matches(seen.path)) return false;
    answer(response, seen);
    return true;
  };
}

export const onEverything = (answer: Answer) => answering(() => true, answer);
export const onManifests = (answer: Answer) => answering((path) => path.includes("/manifests/"), answer);
/** On the blobs of the good image's layers. */
export const onLayers = (answer: Answer) =>
  answering((path) => good.layers.some(({ digest }) => path.endsWith(digest)), answer);

/**
 * Tests that each case ends with its error, that nothing half-done is left in the store, and that the next pull,
 * of the good image, works.
 */
export function describeHostile(subject: string, cases: readonly HostileCase[]): void {
  describe(subject, () => {
    let registry: FakeRegistry;
    before(async () => {
      registry = await FakeRegistry.start();
    });
    after(() => registry[Symbol.asyncDispose]());
    beforeEach(() => {
      registry.add(good, "x", "good");
      registry.intercept = () => false;
    });

    for (const { title, image, serve, intercept, code, message } of cases) {
      it(`ends well when it serves ${title}`, { timeout: 60_000 }, async () => {
        using fixture = new StoreFixture();
        if (image) registry.add(image, "x");
        serve?.(registry);
        if (intercept) registry.intercept = intercept;
        const pull = fixture.store.pull(`${registry.host}/some/image:x`);
        await assert.rejects(pull, failsWith(code, message));
        await assert.rejects(pull, ({ message: text }: Error) =>
          text.startsWith(`pull ${registry.host}/some/image:x: `),
        );
        fixture.assertEmpty();

        registry.intercept = () => false;
        const recovered = await fixture.store.pull(`${registry.host}/some/image:good`);
        assert.equal(recovered.id, good.digest);
        fixture.assertLayersGenuine(recovered);
        fixture.assertDisk(recovered);
        fixture.assertNothingStaged();
      });
    }
  });
}
