// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import { Duplex } from "node:stream";
import { describe, it } from "node:test";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { seededRandom } from "../testing/duplex-pair.ts";
import * as yamux from "./frame.ts";
import { type Substream, YamuxSession, YamuxStream } from "./index.ts";

const { TYPE_DATA, TYPE_WINDOW_UPDATE, TYPE_PING, TYPE_GO_AWAY, FLAG_SYN, FLAG_ACK, FLAG_FIN, FLAG_RST } =
  yamux;

function header(type: number, flags: number, id: number, length: number): Buffer {
  const bytes = Buffer.alloc(yamux.HEADER_SIZE);
  yamux.writeHeader(bytes, 0, type, flags, id, length);
  return bytes;
}
const data = (id: number, size: number, flags = 0) =>
  Buffer.concat([header(TYPE_DATA, flags, id, size), Buffer.alloc(size, 0xaa)]);
const update = (id: number, delta: number, flags = 0) => header(TYPE_WINDOW_UPDATE, flags, id, delta);
const repeat = (bytes: Buffer, count: number) => Buffer.concat(Array.from({ length: count }, () => bytes));

/** The session's end of a byte stream whose other end the test plays; what the session sends is kept or refused. */
class Wire extends Duplex {
  readonly sent: Buffer[] = [];
  readonly #takesAll: boolean;

  constructor({ takesAll = true } = {}) {
    super();
    this.#takesAll = takesAll;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.sent.push(Buffer.from(chunk));
    if (this.#takesAll) done();
  }
}

/** One that takes nothing until `flow`, then everything. */
class SlowWire extends Wire {
  #flows = false;
  #waiting: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.sent.push(Buffer.from(chunk));
    if (this.#flows) done();
    else this.#waiting = done;
  }

  flow(): void {
    this.#flows = true;
    this.#waiting?.();
  }
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

interface Victim {
  readonly wire: Wire;
  readonly session: YamuxSession;
  readonly accepted: Substream[];
  /** Stream 1, opened by the session. */
  readonly own: YamuxStream;
}

async function victim(wire = new Wire()): Promise<Victim> {
  const accepted: Substream[] = [];
  const onSubstream = (substream: Substream) => void accepted.push(substream);
  const session = new YamuxSession(wire, { role: "client", onSubstream });
  const own = session.open();
  await turn();
  return { wire, session, accepted, own };
}

describe("a yamux session with a hostile peer", { timeout: 60_000 }, () => {
  const attacks: [string, Buffer][] = [
    ["another version", Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ["an unknown type", header(4, 0, 1, 0)],
    ["unknown flags", update(1, 0, 0x10)],
    ["data for the session", data(0, 1)],
    ["a window update for the session", update(0, 1)],
    ["data for a stream that was never opened", data(2, 1)],
    ["data for a stream of ours that was never opened", data(3, 1)],
    ["a window update for a stream that was never opened", update(2, 1)],
    ["a stream opened with one of our ids", update(5, 0, FLAG_SYN)],
    ["a stream opened twice", repeat(update(2, 0, FLAG_SYN), 2)],
    ["our stream opened by it", update(1, 0, FLAG_SYN)],
    ["data beyond the window", header(TYPE_DATA, FLAG_SYN, 2, yamux.INITIAL_WINDOW + 1)],
    ["data beyond the window, in steps", Buffer.concat([update(2, 0, FLAG_SYN), repeat(data(2, 65_536), 5)])],
    ["data of 4 GiB", header(TYPE_DATA, FLAG_SYN, 2, 0xffff_ffff)],
    [
      "data of 4 GiB for a stream that was reset",
      Buffer.concat([update(2, 0, FLAG_SYN | FLAG_RST), header(TYPE_DATA, 0, 2, 0xffff_ffff)]),
    ],
    ["a window that overflows", update(1, 0xffff_ffff, FLAG_ACK)],
    [
      "a window that overflows in steps",
      Buffer.concat([update(1, 0x7fff_ffff), update(1, 0x7fff_ffff), update(1, 0x7fff_ffff)]),
    ],
    ["two acknowledgements", repeat(update(1, 0, FLAG_ACK), 2)],
    ["an acknowledgement of its own stream", Buffer.concat([update(2, 0, FLAG_SYN), update(2, 0, FLAG_ACK)])],
    ["two ends", repeat(update(1, 0, FLAG_FIN), 2)],
    ["data after the end", Buffer.concat([data(2, 5, FLAG_SYN | FLAG_FIN), data(2, 5)])],
    ["a go away because of us", header(TYPE_GO_AWAY, 0, 0, 1)],
    ["a go away for no known reason", header(TYPE_GO_AWAY, 0, 0, 77)],
    ["a flood of pings", repeat(header(TYPE_PING, FLAG_SYN, 0, 7), 100_000)],
    [
      "a flood of streams",
      Buffer.concat(Array.from({ length: 5000 }, (_, index) => update(2 + 2 * index, 0, FLAG_SYN))),
    ],
  ];
  for (const [name, bytes] of attacks) {
    it(`ends with PROTOCOL_ERROR on ${name}`, async () => {
      const { wire, session, own } = await victim();
      const error = once(own, "error");
      wire.push(bytes);
      const reason = await session.closed;
      assert.equal(reason.code, "PROTOCOL_ERROR", reason.message);
      assert.equal((await error)[0], reason);
      assert.equal(wire.destroyed, true);
      assert.equal(Buffer.concat(wire.sent).at(-11), TYPE_GO_AWAY);
    });
  }

  const harmless: [string, Buffer][] = [
    [
      "data that crossed with a reset",
      Buffer.concat([update(2, 0, FLAG_SYN | FLAG_RST), data(2, 100), update(2, 5)]),
    ],
    ["streams that are opened out of order", Buffer.concat([update(8, 0, FLAG_SYN), update(2, 0, FLAG_SYN)])],
    ["an answer to a ping we never sent", header(TYPE_PING, FLAG_ACK, 0, 1)],
    ["empty data", repeat(data(1, 0), 1000)],
  ];
  for (const [name, bytes] of harmless) {
    it(`goes on after ${name}`, async () => {
      const { wire, session } = await victim();
      for (const byte of bytes) wire.push(Buffer.of(byte));
      await turn();
      assert.equal(session.isClosed, false);
      session.close();
    });
  }

  it("answers pings in one go, and no more than it owes", async () => {
    const { wire, session } = await victim();
    wire.sent.length = 0;
    wire.push(repeat(header(TYPE_PING, FLAG_SYN, 0, 7), 200));
    await turn();
    assert.deepEqual(Buffer.concat(wire.sent), repeat(header(TYPE_PING, FLAG_ACK, 0, 7), 200));
    session.close();
  });

  it("ends when pings come and answers are not taken", async () => {
    const { wire, session } = await victim(new Wire({ takesAll: false }));
    for (let round = 0; round < 10; round++) {
      wire.push(repeat(header(TYPE_PING, FLAG_SYN, 0, 7), 200));
      await turn();
    }
    assert.equal((await session.closed).code, "PROTOCOL_ERROR");
  });

  const answers: [string, (substream: Substream) => void][] = [
    ["nothing", () => {}],
    ["data", (substream) => substream.write([Buffer.alloc(10)], () => {})],
    ["a reset", (substream) => substream.reset()],
  ];
  for (const [what, answer] of answers) {
    it(`owes a peer that opens, resets and reads nothing no more than its limits: ${what}`, async () => {
      const wire = new Wire({ takesAll: false });
      const session = new YamuxSession(wire, { role: "client", onSubstream: answer });
      wire.push(header(TYPE_PING, FLAG_SYN, 0, 7)); // the write of its answer never ends
      await turn();
      collectGarbage();
      const before = process.memoryUsage().heapUsed;
      for (let id = 2; id < 100_000 && !session.isClosed; id += 2) {
        wire.push(Buffer.concat([update(id, 0, FLAG_SYN), update(id, 0, FLAG_RST)]));
        if (id % 16 === 0) await turn();
        assert.ok(
          session.scheduler.queued <= 2048,
          `${session.scheduler.queued} wait after ${id / 2} streams`,
        );
      }
      collectGarbage();
      const held = process.memoryUsage().heapUsed - before;
      assert.ok(held < 8 << 20, `${held} bytes held`);
      assert.equal(session.isClosed, true);
      assert.match((await session.closed).message, /too many streams/);
    });
  }

  it("takes streams again once a peer that read nothing for a while reads", async () => {
    const wire = new SlowWire();
    const opened: Substream[] = [];
    const onSubstream = (substream: Substream) => void opened.push(substream);
    const session = new YamuxSession(wire, { role: "client", onSubstream });
    const pair = (id: number) => Buffer.concat([update(id, 0, FLAG_SYN), update(id, 0, FLAG_RST)]);
    wire.push(header(TYPE_PING, FLAG_SYN, 0, 7));
    await turn();
    for (let id = 2; id <= 1200; id += 2) wire.push(pair(id));
    await turn();
    assert.equal(opened.length, 512);
    wire.flow();
    await turn();
    assert.equal(session.scheduler.queued, 0);
    wire.push(pair(1202));
    await turn();
    assert.equal(opened.length, 513);
    session.close();
  });

  it("owes it no more when it resets our calls than we have made at a time", async () => {
    const wire = new Wire({ takesAll: false });
    const session = new YamuxSession(wire, { role: "client" });
    wire.push(header(TYPE_PING, FLAG_SYN, 0, 7));
    await turn();
    for (let id = 1; id < 4000; id += 2) {
      session.open().on("error", () => {});
      wire.push(update(id, 0, FLAG_RST));
      await turn();
    }
    assert.ok(session.scheduler.queued <= 256, `${session.scheduler.queued} wait`);
    session.close();
  });

  it("refuses streams beyond its limit and keeps the others", async () => {
    const { wire, session, accepted } = await victim();
    wire.push(Buffer.concat(Array.from({ length: 600 }, (_, index) => update(2 + 2 * index, 0, FLAG_SYN))));
    await turn();
    assert.equal(accepted.length, 512);
    assert.equal(session.isClosed, false);
    session.close();
  });

  it("holds what nobody reads in memory of about its size, even when it comes byte by byte", async () => {
    const { wire, session, accepted } = await victim();
    wire.push(update(2, 0, FLAG_SYN));
    await turn();
    assert.equal(accepted.length, 1);
    collectGarbage();
    const before = process.memoryUsage().arrayBuffers;
    // Each read buffer holds one byte for stream 2; the rest of it is for a stream that is gone.
    const filler = data(1, 60_000);
    wire.push(update(1, 0, FLAG_RST));
    for (let round = 0; round < 4000; round++) {
      wire.push(Buffer.concat([data(2, 1), filler]));
      if (round % 50 === 0) await turn();
    }
    let held = Number.POSITIVE_INFINITY;
    for (let tries = 0; held > 32 << 20 && tries < 50; tries++) {
      collectGarbage(); // frees buffers in the background
      await delay(10);
      held = process.memoryUsage().arrayBuffers - before;
    }
    assert.equal(session.isClosed, false);
    assert.ok(held < 32 << 20, `${held} bytes held`); // 240 MB if each byte kept its buffer
    session.close();
  });

  it("reports a connection that ends inside a frame as lost", async () => {
    const { wire, session } = await victim();
    wire.push(data(1, 100).subarray(0, 50));
    wire.push(null);
    const reason = await session.closed;
    assert.equal(reason.code, "CHANNEL_CLOSED");
    assert.match(reason.message, /inside a frame/);
  });

  it("fails writes, ends and reads that wait when the session is lost", async () => {
    const { wire, session, own } = await victim(new Wire({ takesAll: false }));
    const written = new Promise((resolve) => own.write(Buffer.alloc(1 << 20), resolve));
    const never = session.open();
    const ended = new Promise((resolve) => never.end(resolve));
    wire.destroy(new Error("pulled"));
    const reason = await session.closed;
    assert.match(reason.message, /pulled/);
    assert.equal(await written, reason);
    assert.ok((await ended) instanceof Error);
    const [error] = await once(session.open(), "error");
    assert.equal(error, reason);
  });

  it("survives any bytes: seeded noise and mutations of good frames", async () => {
    for (let seed = 1; seed <= 400; seed++) {
      const random = seededRandom(seed);
      const { wire, session, accepted, own } = await victim();
      own.resume();
      const good = Buffer.concat(
        Array.from({ length: 40 }, (_, index) => {
          const id = random(2) ? 1 : 2 + 2 * random(6);
          const flags = random(3) ? 0 : 1 << random(4);
          return [
            data(id, random(3000), flags),
            update(id, random(100_000), flags),
            header(random(4), random(16), random(9), index),
          ][random(3)] as Buffer;
        }),
      );
      for (let hits = random(30); hits > 0; hits--) good[random(good.length)] = random(256);
      for (let at = 0; at < good.length; ) {
        const size = 1 + random(4000);
        if (!wire.destroyed) wire.push(good.subarray(at, at + size));
        at += size;
        if (random(2)) await turn();
        for (const substream of accepted.splice(0)) {
          const stream = new YamuxStream();
          stream.attach(substream);
          if (random(2)) stream.resume();
          if (random(4) === 0) stream.end("reply");
          if (random(4) === 0) stream.destroy();
        }
      }
      await turn();
      if (!session.isClosed) session.close();
      assert.match((await session.closed).code, /^(PROTOCOL_ERROR|CHANNEL_CLOSED)$/, `seed ${seed}`);
      assert.equal(wire.destroyed, true, `seed ${seed}`);
      assert.equal(session.streamCount, 0, `seed ${seed}`);
    }
  });
});
