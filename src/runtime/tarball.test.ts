// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../errors.ts";
import { readMembers } from "./tarball.ts";
import { ustar } from "./testing/registry.ts";

const LIMIT = 1 << 20;

function isCorrupt(error: unknown): boolean {
  return error instanceof MicrovmError && error.code === "RUNTIME_CORRUPT";
}

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

test("members are found whole however the stream is cut", async () => {
  const lib = Buffer.from(Array.from({ length: 3000 }, (_, i) => i % 251));
  const tar = ustar({ "a/x": Buffer.alloc(700, 7), "a/lib": lib, "a/y": Buffer.alloc(1) });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4000 }), async (size) => {
      const found = await readMembers(pieces(tar, size), [{ member: "a/lib", maxBytes: 3000 }], LIMIT);
      assert.deepEqual(found.get("a/lib"), lib);
      assert.equal(found.size, 1);
    }),
    { numRuns: 50 },
  );
});

const small = ustar({ lib: Buffer.alloc(100, 1) });
const link = Buffer.from(small);
link[156] = "2".charCodeAt(0);
const negative = Buffer.from(small);
negative.write("-0000000001\0", 124, "latin1");

const refused: readonly (readonly [string, Uint8Array, number])[] = [
  ["a stream without the member", ustar({ other: Buffer.alloc(10) }), LIMIT],
  ["a member larger than the pin says", ustar({ lib: Buffer.alloc(101) }), LIMIT],
  ["a stream that ends inside a member", small.subarray(0, 560), LIMIT],
  ["more bytes than allowed in all", ustar({ bomb: Buffer.alloc(9000), lib: Buffer.alloc(100) }), 8000],
  ["a link where the file should be", link, LIMIT],
  ["a negative size", negative, LIMIT],
];

for (const [what, tar, limit] of refused) {
  test(`refused: ${what}`, async () => {
    await assert.rejects(readMembers(pieces(tar, 512), [{ member: "lib", maxBytes: 100 }], limit), isCorrupt);
  });
}
