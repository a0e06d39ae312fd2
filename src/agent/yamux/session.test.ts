// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { chunkyPair, seededRandom } from "../testing/duplex-pair.ts";
import { type Substream, YamuxSession, YamuxStream } from "./index.ts";

/** What one direction of a stream does: the sizes of its writes, and how it ends. */
const direction = fc.record({
  writes: fc.array(fc.oneof(fc.nat(20), fc.nat(5_000), fc.nat(400_000)), { maxLength: 6 }),
  pause: fc.boolean(),
});
const conversation = fc.record({ there: direction, back: direction, opener: fc.constantFrom(0, 1) });

type Direction = typeof direction extends fc.Arbitrary<infer T> ? T : never;

/** Each direction sends a part of this, from an offset of its own: any loss, reordering or mixing of streams shows. */
const noise = randomBytes(6 * 400_000 + 200 * 1009);
const expected = (salt: number, at: number, size: number) =>
  noise.subarray(salt * 1009 + at, salt * 1009 + at + size);

async function send(stream: YamuxStream, { writes, pause }: Direction, salt: number): Promise<void> {
  let at = 0;
  for (const size of writes) {
    const chunk = expected(salt, at, size);
    at += size;
    if (!stream.write(chunk)) await once(stream, "drain");
    if (pause) await turn();
  }
  stream.end();
}

async function expectAll(stream: YamuxStream, { writes, pause }: Direction, salt: number): Promise<void> {
  let at = 0;
  // A for-await over a Duplex would destroy it at its end, though the other direction goes on.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if (!chunk.equals(expected(salt, at, chunk.length))) assert.fail(`bytes from ${at} on`);
    at += chunk.length;
    if (pause) await turn();
  }
  assert.equal(
    at,
    writes.reduce((sum, size) => sum + size, 0),
  );
}

function sessionPair(seed: number): { sessions: [YamuxSession, YamuxSession]; accepted: YamuxStream[][] } {
  const [left, right] = chunkyPair(seededRandom(seed));
  const accepted: YamuxStream[][] = [[], []];
  const accept = (index: number) => (substream: Substream) => {
    const stream = new YamuxStream();
    stream.attach(substream);
    accepted[index]?.push(stream);
  };
  return {
    sessions: [
      new YamuxSession(left, { role: "client", onSubstream: accept(0) }),
      new YamuxSession(right, { role: "server", onSubstream: accept(1) }),
    ],
    accepted,
  };
}

describe("two yamux sessions", { timeout: 120_000 }, () => {
  it("carry any conversations, both ways at once, whatever the chunks", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(conversation, { minLength: 1, maxLength: 8 }),
        fc.integer(),
        async (plan, seed) => {
          const { sessions, accepted } = sessionPair(seed);
          await Promise.all(
            plan.map(async ({ there, back, opener }, salt) => {
              const stream = sessions[opener]!.open();
              // The first byte says which conversation it is.
              stream.write(Buffer.of(salt));
              const other = waitFor(accepted[1 - opener]!, salt);
              await Promise.all([
                send(stream, there, salt),
                expectAll(stream, back, salt + 100),
                other.then((end) => Promise.all([send(end, back, salt + 100), expectAll(end, there, salt)])),
              ]);
            }),
          );
          await turn();
          for (const session of sessions) {
            assert.equal(session.isClosed, false);
            assert.equal(session.streamCount, 0);
            session.close();
          }
          assert.equal((await sessions[1].closed).code, "CHANNEL_CLOSED");
        },
      ),
      { numRuns: 60 },
    );
  });

  it("let a listener that throws break nothing but its own program's peace", async () => {
    const { sessions, accepted } = sessionPair(5);
    const thrown = Promise.withResolvers<unknown>();
    process.setUncaughtExceptionCaptureCallback(thrown.resolve);
    try {
      sessions[0].open().write("bad");
      sessions[0].open().write("good");
      while (accepted[1]!.length < 2) await turn();
      accepted[1]![0]!.on("data", () => {
        throw new Error("from a listener");
      });
      const [chunk] = await once(accepted[1]![1]!, "data");
      assert.equal(String(chunk), "good");
      assert.match(String(await thrown.promise), /from a listener/);
      assert.equal(sessions[1].isClosed, false);
    } finally {
      process.setUncaughtExceptionCaptureCallback(null);
      for (const session of sessions) session.close();
    }
  });

  it("survive streams that are destroyed at any moment, and forget them", async () => {
    const fate = fc.record({
      size: fc.nat(2_000_000),
      after: fc.nat(12),
      side: fc.nat(1),
      reads: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fate, { minLength: 1, maxLength: 8 }), fc.integer(), async (fates, seed) => {
        const { sessions, accepted } = sessionPair(seed);
        for (const { size, after, side, reads } of fates) {
          const stream = sessions[0].open();
          stream.write(Buffer.alloc(size + 1));
          for (let ticks = 0; ticks < after; ticks++) await turn();
          const other = accepted[1]!.at(-1);
          if (reads) other?.resume();
          if (side === 0 || !other) stream.destroy();
          else other.destroy();
        }
        const last = sessions[0].open();
        last.end("alive");
        while (accepted[1]!.length === 0 || !isAlive(accepted[1]!.at(-1)!)) await turn();
        for (const stream of accepted[1]!) stream.destroy();
        for (let ticks = 0; sessions.some((session) => session.streamCount > 0) && ticks < 1e5; ticks++)
          await turn();
        assert.deepEqual(
          sessions.map((session) => [session.isClosed, session.streamCount]),
          [
            [false, 0],
            [false, 0],
          ],
        );
        for (const session of sessions) session.close();
      }),
      { numRuns: 60 },
    );
  });
});

/** The stream whose first byte is this one. */
async function waitFor(streams: YamuxStream[], salt: number): Promise<YamuxStream> {
  for (;;) {
    for (const stream of streams) {
      const first = (stream.read(1) as Buffer | null)?.[0];
      if (first === salt) return stream;
      if (first !== undefined) stream.unshift(Buffer.of(first));
    }
    await turn();
  }
}

function isAlive(stream: YamuxStream): boolean {
  return (stream.read(5) as Buffer | null)?.toString() === "alive";
}
