// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { describe, it } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../errors.ts";
import { decodeMessage, encodeFrame, FrameDecoder, readFrames } from "./frames.ts";
import { HelloSchema, RequestSchema } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof MicrovmError && error.code === expected;

function frame(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Cuts bytes into pieces of these sizes, over and over. */
function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0, index = 0; at < bytes.length; index++) {
    const size = sizes[index % sizes.length] ?? 1;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

describe("frames", () => {
  it("come out as they went in, however the bytes are cut", () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
    const sizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(messages, sizes, fc.uint8Array({ maxLength: 100 }), (sent, pieces, raw) => {
        const decoder = new FrameDecoder(300);
        const got: number[][] = [];
        const rest: Buffer[] = [];
        for (const chunk of cut(Buffer.concat([...sent.map(frame), raw]), pieces)) {
          decoder.push(chunk);
          while (got.length < sent.length) {
            const next = decoder.next();
            if (!next) break;
            got.push([...next]);
          }
          if (got.length === sent.length) rest.push(decoder.rest());
        }
        assert.deepEqual(
          got,
          sent.map((bytes) => [...bytes]),
        );
        if (sent.length > 0) assert.deepEqual(Buffer.concat(rest), Buffer.from(raw));
      }),
    );
  });

  it("are refused when they are too long, before anything is kept for them", () => {
    const decoder = new FrameDecoder(1024);
    decoder.push(Buffer.from([0, 0, 4, 1, 9, 9, 9]));
    assert.throws(() => decoder.next(), code("PROTOCOL_ERROR"));
  });

  it("take memory as they come, not as they announce", () => {
    const before = process.memoryUsage().arrayBuffers;
    const decoders = Array.from({ length: 100 }, () => {
      const decoder = new FrameDecoder(4 << 20);
      decoder.push(Buffer.from([0, 0x40, 0, 0, 1]));
      assert.equal(decoder.next(), undefined);
      return decoder;
    });
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
    assert.ok(decoders.every(({ isInside }) => isInside));
  });

  it("may not end half-way", async () => {
    const frames = readFrames(Readable.from([frame(Buffer.from("whole")), Buffer.from([0, 0])]), 100);
    assert.equal(Buffer.from((await frames.next()).value ?? []).toString(), "whole");
    await assert.rejects(frames.next(), code("PROTOCOL_ERROR"));
  });

  it("hold what was encoded", () => {
    const bytes = encodeFrame(HelloSchema, { protocol: 1, version: "0.1.0" });
    assert.equal(bytes.readUInt32BE(), bytes.length - 4);
    assert.equal(decodeMessage(HelloSchema, bytes.subarray(4)).version, "0.1.0");
  });

  it("are not made of messages that cannot be said", () => {
    const args = ["x".repeat(5 << 20)];
    const tooLong = () => encodeFrame(RequestSchema, { call: { case: "exec", value: { args } } });
    assert.throws(tooLong, code("INVALID_OPTION"));
    assert.throws(() => encodeFrame(HelloSchema, { protocol: -1 }), code("INVALID_OPTION"));
  });

  it("of nonsense are protocol errors", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeMessage(RequestSchema, bytes);
        } catch (error) {
          assert.ok(code("PROTOCOL_ERROR")(error), String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("text of the guest", () => {
  it("is one printable line of bounded length", () => {
    assert.equal(printable("a\u001b[2J\r\nb\u202ec\u2028d"), "a [2J b c d");
    assert.equal(printable("x".repeat(2000)).length, 1025);
  });
});
