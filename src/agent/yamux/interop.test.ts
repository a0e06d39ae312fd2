// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { buffer, text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { afterEach, before, beforeEach, describe, it } from "node:test";
import { buildGoPeer, noGoPeer, type PeerProcess, spawnPeer } from "../testing/go-peer.ts";
import { type Substream, YamuxSession, YamuxStream } from "./index.ts";

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest();

function sizeOf(bytes: number): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(bytes));
  return Buffer.concat([Buffer.from("s"), size]);
}

for (const role of ["client", "server"] as const) {
  describe(`a yamux ${role} with hashicorp/yamux at the other end`, {
    skip: noGoPeer(),
    timeout: 60_000,
  }, () => {
    let path: string;
    let peer: PeerProcess;
    let session: YamuxSession;
    let incoming: (substream: Substream) => void;

    before(() => {
      path = buildGoPeer();
    });
    beforeEach(() => {
      peer = spawnPeer(path, [role === "client" ? "server" : "client", "3"]);
      session = new YamuxSession(peer.socket, { role, onSubstream: (substream) => incoming(substream) });
    });
    afterEach(() => {
      session.close();
      peer[Symbol.dispose]();
    });

    const open = (kind: string | Uint8Array) => {
      const stream = session.open();
      stream.write(kind);
      return stream;
    };

    it("gets back what it sent, through half-closes both ways", async () => {
      const stream = open("e");
      const data = randomBytes(3_000_001);
      stream.end(data);
      assert.deepEqual(sha256(await buffer(stream)), sha256(data));
      assert.equal(session.streamCount, 0);
    });

    it("sends many windows of data unharmed", async () => {
      const stream = open("h");
      const hash = createHash("sha256");
      await pipeline(async function* () {
        for (let index = 0; index < 400; index++) {
          const chunk = randomBytes(1 + ((index * 7919) % 100_000));
          hash.update(chunk);
          yield chunk;
        }
      }, stream as NodeJS.WritableStream);
      assert.deepEqual(await buffer(stream), hash.digest());
    });

    it("receives many windows of data unharmed, however slowly it reads", async () => {
      const stream = open(sizeOf(20_000_000));
      let at = 0;
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (at % 31 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        for (let index = 0; index < chunk.length; index += 4093)
          assert.equal(chunk[index], (at + index) & 0xff);
        at += chunk.length;
      }
      assert.equal(at, 20_000_000);
    });

    it("accepts streams of the peer", async () => {
      const accepted = Promise.withResolvers<YamuxStream>();
      incoming = (substream) => {
        const stream = new YamuxStream();
        stream.attach(substream);
        accepted.resolve(stream);
      };
      open("o").end("through another stream");
      const stream = await accepted.promise;
      stream.end();
      assert.equal(await text(stream), "through another stream");
    });

    it("answers pings", async () => {
      assert.equal(await text(open("p")), "pong");
    });

    it("opens no stream after the peer said go away, and keeps those that are open", async () => {
      const echo = open("e");
      const leaving = open("q");
      assert.equal(await text(leaving), "gone");
      const refused = session.open();
      const [error] = await once(refused, "error");
      assert.equal(error.code, "CHANNEL_CLOSED");
      echo.end("still here");
      assert.equal(await text(echo), "still here");
    });

    it("serves a thousand streams, hundreds at a time", async () => {
      const echoes = Array.from({ length: 1000 }, async (_, index) => {
        const stream = open("e");
        stream.end(`number ${index}`);
        assert.equal(await text(stream), `number ${index}`);
      });
      await Promise.all(echoes);
      assert.equal(session.streamCount, 0);
    });

    it("stalls a stream that the peer does not read, and no other", async () => {
      const stalled = open("i");
      let isSent = false;
      stalled.write(Buffer.alloc(4 << 20), () => {
        isSent = true;
      });
      assert.equal(await text(open("p")), "pong");
      const echo = open("e");
      echo.end("flows");
      assert.equal(await text(echo), "flows");
      assert.equal(isSent, false);
    });

    it("resets a stream it no longer wants", async () => {
      const stream = open(sizeOf(1e12));
      await once(stream, "data");
      stream.destroy();
      assert.equal(await text(open("p")), "pong");
      assert.equal(session.streamCount, 1);
    });

    it("fails what is pending when the peer dies", async () => {
      const stream = open("i");
      const ended = once(stream, "error");
      peer.process.kill("SIGKILL");
      assert.equal((await session.closed).code, "CHANNEL_CLOSED");
      assert.equal((await ended)[0].code, "CHANNEL_CLOSED");
    });
  });
}
