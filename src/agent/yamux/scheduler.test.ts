// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FrameParser, TYPE_DATA, TYPE_PING, TYPE_WINDOW_UPDATE, writeHeader } from "./frame.ts";
import { YamuxSession } from "./index.ts";

/** A byte stream that takes one write at a time, when the test lets it, and knows what frames it was given. */
class SlowWire extends Duplex {
  readonly frames: { type: number; id: number; length: number }[] = [];
  writes = 0;
  #done: (() => void) | undefined;
  readonly #parser = new FrameParser({
    isClosed: false,
    frame: (type, _flags, id, length) => void this.frames.push({ type, id, length }),
    payload: () => {},
  });

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(entries: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      entries.map(({ chunk }) => chunk),
      done,
    );
  }

  /** Lets the write that is under way end; what comes next is the next one. */
  async next(): Promise<SlowWire["frames"]> {
    const seen = this.frames.length;
    this.#done?.();
    await turn();
    return this.frames.slice(seen);
  }

  #take(chunks: Buffer[], done: () => void): void {
    this.writes++;
    for (const chunk of chunks) this.#parser.push(chunk);
    this.#done = done;
  }
}

function frame(type: number, flags: number, id: number, length: number): Buffer {
  const bytes = Buffer.alloc(12);
  writeHeader(bytes, 0, type, flags, id, length);
  return bytes;
}

describe("what a session sends next", () => {
  it("puts a small write after no more than one batch of a bulk stream, and answers before data", async () => {
    const wire = new SlowWire();
    const session = new YamuxSession(wire, { role: "client" });
    const bulk = session.open();
    bulk.write(Buffer.alloc(8 << 20));
    wire.push(frame(TYPE_WINDOW_UPDATE, 2, 1, 64 << 20)); // a window that never ends
    await turn();
    await wire.next();
    session.open().write("now");
    wire.push(frame(TYPE_PING, 1, 0, 42));
    const batch = await wire.next();
    const kinds = batch.map(({ type, id }) => [type, id]);
    assert.deepEqual(kinds[0], [TYPE_PING, 0]);
    assert.deepEqual(kinds[1], [TYPE_WINDOW_UPDATE, 3]);
    const position = batch.findIndex(({ type, id }) => type === TYPE_DATA && id === 3);
    assert.ok(position >= 0 && position <= 3, `frame ${position} of the batch`);
    assert.ok(
      batch.reduce((sum, { type, length }) => sum + (type === TYPE_DATA ? length : 0), 0) <= 320 << 10,
    );
    session.close();
  });

  it("gives each of several bulk streams its turn", async () => {
    const wire = new SlowWire();
    const session = new YamuxSession(wire, { role: "client" });
    for (let index = 0; index < 3; index++) session.open().write(Buffer.alloc(200_000));
    await turn();
    for (let round = 0; round < 4; round++) await wire.next();
    const sent = wire.frames.filter(({ type }) => type === TYPE_DATA).map(({ id }) => id);
    assert.deepEqual(sent.slice(0, 9), [1, 3, 5, 1, 3, 5, 1, 3, 5]);
    session.close();
  });

  it("says in one write what is said in one tick", async () => {
    const wire = new SlowWire();
    const session = new YamuxSession(wire, { role: "client" });
    for (let index = 0; index < 20; index++) session.open().end(`call ${index}`);
    await turn();
    assert.equal(wire.writes, 1);
    assert.equal(wire.frames.filter(({ type }) => type === TYPE_DATA).length, 20);
    session.close();
  });

  it("hands a socket that does not take it no more than one batch", async () => {
    const wire = new SlowWire();
    const session = new YamuxSession(wire, { role: "client" });
    for (let index = 0; index < 50; index++) session.open().write(Buffer.alloc(250_000));
    await turn();
    assert.ok(wire.writableLength <= 320 << 10, `${wire.writableLength} bytes queued`);
    session.close();
  });
});
