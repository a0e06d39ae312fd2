// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, it } from "node:test";
import { ConsoleLog } from "./console.ts";

describe("the console log", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "console-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it("survives a guest that floods it, in bounded disk", async () => {
    const source = new PassThrough();
    const log = new ConsoleLog(dir, source);
    for (let index = 0; index < 200; index++) source.write(Buffer.alloc(65_536, `line ${index}\n`));
    source.end("the end\n");
    await log.ended;
    assert.match(log.tail(), /the end$/);
    const size = statSync(join(dir, "console.log")).size + statSync(join(dir, "console.log.1")).size;
    assert.ok(size <= 2 << 20, `${size} bytes`);
  });

  it("goes on in memory when there is nowhere to write to", async () => {
    const source = new PassThrough();
    const log = new ConsoleLog(join(dir, "missing"), source);
    source.end("still \x1b[31mheard\x1b[0m\u0007\n");
    await log.ended;
    assert.equal(log.tail(), "still heard");
  });
});
