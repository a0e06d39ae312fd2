// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../../errors.ts";
import { layerBeyondUmoci, layerStack } from "../testing/layers.ts";
import { mutate, randomNumbers } from "../testing/mutate.ts";
import { writeChecksum } from "../testing/tar-writer.ts";
import type { TarEntry } from "./entry.ts";
import { TarScanner } from "./scanner.ts";

const CODES = ["IMAGE_CORRUPT", "IMAGE_LIMIT", "IMAGE_UNSUPPORTED"];
/** Milliseconds each fuzz target may take: `FUZZ_MS=600000 node --test src/image/tar/fuzz.test.ts`. */
const BUDGET_MS = Number(process.env.FUZZ_MS ?? 1500);
const SEED = Number(process.env.FUZZ_SEED ?? 1);

const corpus = [...layerStack().map((layer) => layer.subarray(0, 200_000)), layerBeyondUmoci()];

describe("the tar scanner", () => {
  test("finds the same entries however the bytes are cut", () => {
    const archive = Buffer.concat([layerStack()[0]!]);
    const whole = scan([archive]);
    assert.ok(whole.length > 400);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 50 }), (sizes) => {
        assert.deepEqual(scan(cut(archive, sizes)), whole);
      }),
      { numRuns: 15, seed: SEED },
    );
  });

  test("finds the same entries when it is allowed to skip contents", () => {
    const [archive] = layerStack();
    const entries: TarEntry[] = [];
    const scanner = new TarScanner((entry) => entries.push(entry));
    for (let at = 0; at < archive!.length; ) {
      const skipped = Math.min(scanner.skippable, archive!.length - at);
      scanner.skip(skipped);
      at += skipped;
      scanner.write(archive!.subarray(at, at + 512));
      at += 512;
    }
    scanner.end();
    assert.deepEqual(entries, scan([archive!]));
  });

  test("throws nothing but its own errors at mutated archives, and never hangs", () => {
    const random = randomNumbers(SEED);
    const outcomes = new Map<string, number>();
    for (const end = Date.now() + BUDGET_MS; Date.now() < end; ) {
      const archive = mutate(corpus[random(corpus.length)]!, random);
      const outcome = tryScan(archive);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    // A fuzzer that reaches only one outcome tests nothing.
    assert.ok((outcomes.get("ok") ?? 0) > 0, `outcomes: ${[...outcomes]}`);
    assert.ok((outcomes.get("IMAGE_CORRUPT") ?? 0) > 0, `outcomes: ${[...outcomes]}`);
  });

  test("keeps no more memory than its limits say", () => {
    // Each header announces the largest extension that is allowed, and then another takes its place.
    const scanner = new TarScanner(() => {});
    const before = process.memoryUsage();
    const block = Buffer.alloc(512);
    block.write("x", 156);
    block.write("00003777777\0", 124);
    writeChecksum(block);
    const body = Buffer.alloc((1 << 20) - 1, 0);
    body.write(`${body.length} comment=`);
    body.write("\n", body.length - 1);
    for (let round = 0; round < 200; round += 1) {
      scanner.write(block);
      scanner.write(body);
      scanner.write(Buffer.alloc(1));
    }
    const after = process.memoryUsage();
    const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
    assert.ok(grown < 100 << 20, `grew by ${grown} bytes`);
  });
});

function scan(chunks: Iterable<Buffer>): TarEntry[] {
  const entries: TarEntry[] = [];
  const scanner = new TarScanner((entry) => entries.push(entry));
  for (const chunk of chunks) scanner.write(chunk);
  scanner.end();
  return entries;
}

function tryScan(archive: Buffer): string {
  try {
    for (const entry of scan([archive])) checkEntry(entry, archive.length);
    return "ok";
  } catch (error) {
    assert.ok(error instanceof MicrovmError, `${error instanceof Error ? error.stack : error}`);
    assert.ok(CODES.includes(error.code) && error.stage === "image", error.message);
    assert.ok(error.message.length < 1000 && !/\p{Cc}/u.test(error.message), JSON.stringify(error.message));
    return error.code;
  }
}

/** What everything behind the scanner takes for granted. */
function checkEntry(entry: TarEntry, archiveBytes: number): void {
  assert.ok(entry.path.length <= 4095 && !entry.path.includes("\0"));
  assert.ok(entry.linkPath.length <= 4095 && !entry.linkPath.includes("\0"));
  assert.ok(entry.mode >= 0 && entry.mode <= 0o7777);
  for (const id of [entry.uid, entry.gid]) assert.ok(Number.isInteger(id) && id >= 0 && id < 0xffff_ffff);
  assert.ok(Number.isSafeInteger(entry.mtimeSec));
  assert.ok(Number.isInteger(entry.mtimeNsec) && entry.mtimeNsec >= 0 && entry.mtimeNsec < 1e9);
  assert.ok(Number.isSafeInteger(entry.size) && entry.size >= 0);
  assert.equal(entry.dataOffset % 512, 0);
  for (const { offset, dataOffset, length } of entry.sparse ?? []) {
    assert.ok(offset >= 0 && length > 0 && offset + length <= entry.size);
    assert.ok(dataOffset >= 0 && dataOffset + length <= archiveBytes);
  }
  if (entry.type === "file" && entry.sparse === undefined) {
    assert.ok(entry.size === 0 || entry.dataOffset + entry.size <= archiveBytes);
  }
}

function* cut(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}
