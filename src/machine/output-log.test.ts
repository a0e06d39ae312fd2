// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { OutputLog, readOutputLog } from "./output-log.ts";

describe("the output log", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "output-"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it("gives back the bytes of both streams in order", async () => {
    const log = await OutputLog.create(dir);
    log.append("stdout", Buffer.from("a\n"));
    log.append("stderr", Buffer.from([0, 255]));
    log.append("stdout", Buffer.from("b"));
    await log.close();
    const records = await Array.fromAsync(readOutputLog(dir));
    assert.deepEqual(
      records.map(({ stream, data }) => [stream, data.toString("latin1")]),
      [
        ["stdout", "a\n"],
        ["stderr", "\0\xff"],
        ["stdout", "b"],
      ],
    );
  });

  it("keeps the newest output and bounds the disk it takes", async () => {
    const log = await OutputLog.create(dir);
    const chunk = Buffer.alloc(1 << 20);
    for (let index = 0; index < 50; index++) {
      chunk.writeUInt32BE(index);
      await log.append("stdout", chunk);
    }
    await log.close();
    const size = statSync(join(dir, "output.log")).size + statSync(join(dir, "output.log.1")).size;
    assert.ok(size <= 33 << 20, `${size} bytes on disk`);
    const order = (await Array.fromAsync(readOutputLog(dir))).map(({ data }) => data.readUInt32BE());
    assert.deepEqual(
      order,
      Array.from(order, (_, index) => 50 - order.length + index),
    );
    assert.ok(order.length >= 16);
  });

  it("is followed across a rotation until it is told to stop", async () => {
    const log = await OutputLog.create(dir);
    const stop = new AbortController();
    const lengths: number[] = [];
    const reader = (async () => {
      for await (const { data } of readOutputLog(dir, stop.signal)) {
        lengths.push(data.length);
        if (data.length === 7) stop.abort();
      }
    })();
    const chunk = Buffer.alloc(1 << 20);
    for (let index = 0; index < 20; index++) await log.append("stdout", chunk);
    await log.append("stderr", Buffer.alloc(7));
    await reader;
    assert.equal(lengths.at(-1), 7);
    await log.close();
  });
});
