// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../../errors.ts";
import { LineSplitter, QmpClient, type QmpEvent } from "./qmp.ts";

/** QEMU's end of the channel: what is written to it, and what it says. */
function fakeQemu(): { socket: Duplex; written: string[]; say: (text: string | Uint8Array) => void } {
  const written: string[] = [];
  const socket = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk.toString("utf8"));
      done();
    },
  });
  return { socket, written, say: (text) => socket.push(text) };
}

function isProtocolError(error: unknown): boolean {
  return error instanceof MicrovmError && error.code === "PROTOCOL_ERROR";
}

test("answers go to the commands in their order, events to the listener", async () => {
  const { socket, written, say } = fakeQemu();
  const events: QmpEvent[] = [];
  const client = new QmpClient(socket, (event) => events.push(event));
  say('{"QMP": {"version": {}, "capabilities": []}}\r\n');
  const first = client.execute("qmp_capabilities");
  const second = client.execute("query-status", { a: 1 });
  say('{"return": {}}\r\n{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}\r\n{"return": ');
  say('{"running": true}}\r\n');
  assert.deepEqual(await first, {});
  assert.deepEqual(await second, { running: true });
  assert.deepEqual(events, [{ name: "SHUTDOWN", data: { reason: "guest-reset" } }]);
  assert.deepEqual(
    written.map((line) => JSON.parse(line)),
    [{ execute: "qmp_capabilities" }, { execute: "query-status", arguments: { a: 1 } }],
  );
});

test("a command that QEMU refuses fails with QEMU's words", async () => {
  const { socket, say } = fakeQemu();
  const client = new QmpClient(socket, () => undefined);
  const answer = client.execute("nonsense");
  say('{"error": {"class": "CommandNotFound", "desc": "no such command"}}\n');
  await assert.rejects(answer, /no such command/);
});

test("commands fail when the channel closes, before and after", async () => {
  const { socket } = fakeQemu();
  const client = new QmpClient(socket, () => undefined);
  const waiting = client.execute("quit");
  socket.destroy();
  await assert.rejects(waiting, isProtocolError);
  await client.closed;
  await assert.rejects(client.execute("quit"), isProtocolError);
});

for (const [what, bytes] of [
  ["not JSON", "hello\n"],
  ["an array", "[1]\n"],
  ["null", "null\n"],
  ["a line without end", "x".repeat(300 << 10)],
] as const) {
  test(`the channel is given up on ${what}`, async () => {
    const { socket, say } = fakeQemu();
    const client = new QmpClient(socket, () => undefined);
    const waiting = client.execute("query-status");
    say(bytes);
    await assert.rejects(waiting, isProtocolError);
    await client.closed;
  });
}

test("no bytes from the VMM do more than end the channel", async () => {
  const line = fc.oneof(
    fc.json(),
    fc.string(),
    fc.constantFrom(
      '{"return":1}',
      '{"error":7}',
      '{"event":"X","data":[]}',
      '{"event":{}}',
      '{"error":{"desc":{}}}',
    ),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 8 }),
      fc.uint8Array({ maxLength: 40 }),
      async (lines, tail) => {
        const { socket, say } = fakeQemu();
        const client = new QmpClient(socket, () => undefined);
        const waiting = client.execute("query-status").then(
          () => undefined,
          (error: unknown) => assert.ok(isProtocolError(error)),
        );
        say(`${lines.join("\n")}\n`);
        say(tail);
        socket.push(null);
        socket.resume();
        await client.closed;
        await waiting;
      },
    ),
    { numRuns: 300 },
  );
});

test("lines come out the same however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 20 }).map((text) => text.replaceAll("\n", ""))),
      fc.integer({ min: 1, max: 7 }),
      (lines, size) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        const splitter = new LineSplitter(1000);
        const out: string[] = [];
        for (let at = 0; at < bytes.length; at += size)
          out.push(...splitter.push(bytes.subarray(at, at + size)));
        assert.deepEqual(
          out,
          lines.map((text) => Buffer.from(text).toString("utf8")),
        );
      },
    ),
  );
});
