// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { MicrovmError } from "../errors.ts";
import { flatten } from "./flatten.ts";
import { ErofsReader } from "./testing/erofs-reader.ts";
import { layerBeyondUmoci, layerStack } from "./testing/layers.ts";
import { mutate, randomNumbers } from "./testing/mutate.ts";
import { storeLayers } from "./testing/stored-layers.ts";

/** `FUZZ_MS=600000 FUZZ_SEED=7 node --test src/image/flatten.fuzz.test.ts` */
const BUDGET_MS = Number(process.env.FUZZ_MS ?? 2000);
const SEED = Number(process.env.FUZZ_SEED ?? 1);

const directory = mkdtempSync(join(tmpdir(), "microvm-fuzz-"));
after(() => rmSync(directory, { recursive: true, force: true }));

test("mutated layers are refused, or make an image that breaks no assumption of the kernel's", async () => {
  const random = randomNumbers(SEED);
  const corpus = [...layerStack(), layerBeyondUmoci()];
  let [flattened, refused] = [0, 0];
  for (const end = Date.now() + BUDGET_MS; Date.now() < end; ) {
    // Mostly one at a time: of a stack in which all are damaged, the first is refused.
    const layers = corpus.map((layer) => (random(corpus.length) === 0 ? mutate(layer, random) : layer));
    const stored = storeLayers(directory, layers);
    try {
      const { rootfsPath } = await flatten({ layers: stored, outDir: directory });
      using reader = new ErofsReader(
        rootfsPath,
        stored.map(({ path }) => path),
      );
      assert.ok(reader.readAll().size > 0);
      flattened += 1;
    } catch (error) {
      if (!(error instanceof MicrovmError)) throw error;
      assert.match(error.code, /^IMAGE_(CORRUPT|LIMIT|UNSUPPORTED)$/, error.message);
      assert.equal(error.stage, "image");
      refused += 1;
    }
  }
  assert.ok(flattened > 0 && refused > 0, `${flattened} flattened, ${refused} refused`);
});
