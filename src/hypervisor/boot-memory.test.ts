// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { remembered } from "./boot-memory.ts";

let dir: string;
let asked: number;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "microvm-memory-"));
  asked = 0;
});
afterEach(() => rmSync(dir, { recursive: true }));

const isNumber = (value: unknown): value is number => typeof value === "number";
const ask = (): Promise<number> => Promise.resolve(++asked);
const linux = { skip: process.platform !== "linux" && "needs Linux's boot id" };

test("the same question is asked once, another anew", linux, async () => {
  assert.equal(await remembered(dir, ["a"], isNumber, ask), 1);
  assert.equal(await remembered(dir, ["a"], isNumber, ask), 1);
  assert.equal(await remembered(dir, ["b"], isNumber, ask), 2);
});

test("without a directory nothing is remembered", async () => {
  assert.equal(await remembered(undefined, ["a"], isNumber, ask), 1);
  assert.equal(await remembered(undefined, ["a"], isNumber, ask), 2);
});

test("what was torn or tampered with is asked again, and other boots' answers go", linux, async () => {
  await remembered(dir, ["a"], isNumber, ask);
  const [name] = readdirSync(join(dir, "machine"));
  for (const content of ['{"not":"a number"}', "{", ""]) {
    writeFileSync(join(dir, "machine", name!), content);
    writeFileSync(join(dir, "machine", "01234567-of-another-boot"), "1");
    await remembered(dir, ["a"], isNumber, ask);
    assert.deepEqual(readdirSync(join(dir, "machine")), [name]);
  }
  assert.equal(asked, 4);
});

test("an answer that may soon be another is not remembered", linux, async () => {
  const isLasting = (answer: number): boolean => answer > 1;
  assert.equal(await remembered(dir, ["a"], isNumber, ask, isLasting), 1);
  assert.equal(await remembered(dir, ["a"], isNumber, ask, isLasting), 2);
  assert.equal(await remembered(dir, ["a"], isNumber, ask, isLasting), 2);
});

test("a failure is not remembered", async () => {
  const fail = (): Promise<number> => Promise.reject(new Error("no"));
  await assert.rejects(remembered(dir, ["a"], isNumber, fail));
  assert.equal(await remembered(dir, ["a"], isNumber, ask), 1);
});
