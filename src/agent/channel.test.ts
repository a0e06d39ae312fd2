// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { MicrovmError } from "../errors.ts";
import { decodeMessage, encodeFrame, readFrames } from "./frames.ts";
import {
  AttachSchema,
  BootEventSchema,
  DoneSchema,
  ExecEventSchema,
  HelloSchema,
  type Request,
  RequestSchema,
  Attach_Stdio as Stdio,
} from "./gen/microvm/v1/channel_pb.ts";
import { type Channel, connectAgent, openAgent } from "./index.ts";
import { chunkyPair, seededRandom } from "./testing/duplex-pair.ts";
import { YamuxSession, YamuxStream } from "./yamux/index.ts";

const code = (expected: string) => (error: unknown) =>
  error instanceof MicrovmError && error.code === expected;
const hello = (protocol = 1) => encodeFrame(HelloSchema, { protocol, version: "9.9" });

interface Guest {
  readonly channel: Channel;
  readonly session: YamuxSession;
}

/** A guest whose side of each call is the test's. */
async function guest(
  answer: (call: YamuxStream, request: Request, session: YamuxSession) => unknown,
): Promise<Guest> {
  const [host, other] = chunkyPair(seededRandom(7));
  const connecting = connectAgent(host);
  const head = await read(other, hello().length);
  other.write(hello());
  let isFirst = true;
  const session: YamuxSession = new YamuxSession(other, {
    role: "server",
    preface: (chunk) => {
      const whole = isFirst ? Buffer.concat([head, chunk]) : chunk;
      isFirst = false;
      const length = 4 + whole.readUInt32BE();
      return whole.subarray(length);
    },
    onSubstream: async (substream) => {
      const call = new YamuxStream();
      call.attach(substream);
      const { value } = await readFrames(call, 1 << 20).next();
      answer(call, decodeMessage(RequestSchema, value ?? assert.fail("no request")), session);
    },
  });
  return { channel: await connecting, session };
}

/** The first bytes of a stream, all of them that are there once there are this many. */
async function read(stream: Duplex, atLeast: number): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  while (bytes.length < atLeast) {
    await once(stream, "readable");
    bytes = Buffer.concat([bytes, (stream.read() as Buffer | null) ?? Buffer.alloc(0)]);
  }
  return bytes;
}

const event = (value: Parameters<typeof encodeFrame<typeof ExecEventSchema>>[1]["event"]) =>
  encodeFrame(ExecEventSchema, value ? { event: value } : {});
const started = event({ case: "started", value: { pid: 5 } });
const exited = event({ case: "exited", value: { code: 3, signal: 0 } });

describe("connecting to an agent", { timeout: 20_000 }, () => {
  it("says hello at once, and waits for the agent's", async () => {
    const [host, other] = chunkyPair(seededRandom(1));
    const connecting = connectAgent(host);
    assert.equal((await read(other, 8)).readUInt32BE() < 100, true);
    assert.equal(await Promise.race([connecting, turn("waiting")]), "waiting");
    other.write(hello());
    assert.equal(await (await connecting).connected, "9.9");
  });

  it("lets calls be made before anybody is there", async () => {
    const [host, other] = chunkyPair(seededRandom(1));
    const channel = openAgent(host);
    const boot = channel.boot({ hostname: "early" });
    const helloAndCall = await read(other, 40);
    assert.ok(helloAndCall.includes("early"));
    other.write(hello(2));
    await assert.rejects(boot, code("PROTOCOL_ERROR"));
    await assert.rejects(channel.connected, code("PROTOCOL_ERROR"));
  });

  const refusals: [string, Buffer, RegExp][] = [
    ["another protocol", hello(2), /9\.9.* speaks protocol 2 .*speaks 1/],
    ["no hello at all", Buffer.from("SSH-2.0-OpenSSH_9.2\r\n"), /frame of \d+ bytes/],
    ["a hello that is none", Buffer.from([0, 0, 0, 2, 0xff, 0xff]), /not a Hello/],
  ];
  for (const [name, bytes, message] of refusals) {
    it(`refuses ${name}`, async () => {
      const [host, other] = chunkyPair(seededRandom(1));
      const connecting = connectAgent(host);
      other.write(bytes);
      await assert.rejects(
        connecting,
        (error) => code("PROTOCOL_ERROR")(error) && message.test(String(error)),
      );
      assert.equal(host.destroyed, true);
    });
  }

  it("gives up when told to, or when the other side goes", async () => {
    const [host] = chunkyPair(seededRandom(1));
    await assert.rejects(connectAgent(host, { signal: AbortSignal.timeout(5) }), code("TIMEOUT"));
    assert.equal(host.destroyed, true);
    const [again, other] = chunkyPair(seededRandom(1));
    const connecting = connectAgent(again);
    other.destroy();
    await assert.rejects(connecting, code("CHANNEL_CLOSED"));
    await assert.rejects(connectAgent(again), code("CHANNEL_CLOSED"));
  });
});

describe("a boot", { timeout: 20_000 }, () => {
  const stage = (name: string) =>
    encodeFrame(BootEventSchema, { event: { case: "stage", value: { name, beginNanos: 1n, endNanos: 2n } } });

  it("reports its stages and that it is ready", async () => {
    const { channel } = await guest((call, { call: request }) => {
      assert.equal(request.case === "boot" && request.value.hostname, "box");
      const ready = { case: "ready", value: { kernel: "6.12", uptimeNanos: 3n } } as const;
      call.end(
        Buffer.concat([
          stage("root"),
          stage("evil\u001b[2J"),
          encodeFrame(BootEventSchema, { event: ready }),
        ]),
      );
    });
    const names: string[] = [];
    const ready = await channel.boot({ hostname: "box" }, { onStage: ({ name }) => names.push(name) });
    assert.equal(ready.kernel, "6.12");
    assert.deepEqual(names, ["root", "evil [2J"]);
  });

  it("fails with the guest's stage and words", async () => {
    const failed = { case: "failed", value: { stage: "root", message: "mount /dev/vda: EINVAL" } } as const;
    const { channel } = await guest((call) => call.end(encodeFrame(BootEventSchema, { event: failed })));
    await assert.rejects(channel.boot({}), (error) => {
      assert.ok(error instanceof MicrovmError);
      assert.deepEqual([error.code, error.stage, error.evidence.guestStage], ["BOOT_FAILED", "boot", "root"]);
      return /root: mount/.test(error.message);
    });
  });

  const broken: [string, (call: YamuxStream, session: YamuxSession) => unknown, string][] = [
    ["ends without an answer", (call) => call.end(stage("root")), "PROTOCOL_ERROR"],
    ["says nothing it should", (call) => call.write(Buffer.from([0, 0, 0, 0])), "PROTOCOL_ERROR"],
    ["announces a frame of 4 GiB", (call) => call.write(Buffer.from([255, 255, 255, 255])), "PROTOCOL_ERROR"],
    [
      "has no end of stages",
      (call) => call.write(Buffer.concat(Array.from({ length: 300 }, () => stage("x")))),
      "PROTOCOL_ERROR",
    ],
    ["is reset", (call) => call.destroy(), "CHANNEL_CLOSED"],
    ["loses the channel", (_, session) => session.close(), "CHANNEL_CLOSED"],
  ];
  for (const [name, act, expected] of broken) {
    it(`rejects with ${expected} when it ${name}`, async () => {
      const { channel } = await guest((call, _, session) => act(call, session));
      await assert.rejects(channel.boot({}), code(expected));
    });
  }

  it("is given up with its signal, and the guest hears of it", async () => {
    const asked = Promise.withResolvers<YamuxStream>();
    const { channel } = await guest((call) => asked.resolve(call));
    const abort = new AbortController();
    const boot = channel.boot({}, { signal: abort.signal });
    const call = await asked.promise;
    abort.abort();
    await assert.rejects(boot, code("ABORTED"));
    assert.ok(code("CHANNEL_CLOSED")((await once(call, "error"))[0]));
    await assert.rejects(channel.boot({}, { signal: abort.signal }), code("ABORTED"));
  });
});

describe("an exec with a hostile guest", { timeout: 20_000 }, () => {
  const attach = (session: YamuxSession, stdio: Stdio, execId = 1n) => {
    const stream = session.open();
    stream.write(encodeFrame(AttachSchema, { execId, stdio }));
    return stream;
  };

  const nonsense: [string, Buffer][] = [
    ["an exit before the start", exited],
    ["two starts", Buffer.concat([started, started])],
    ["an empty event", Buffer.from([0, 0, 0, 0])],
    ["garbage", Buffer.from([0, 0, 0, 3, 255, 255, 255])],
    ["a frame of 4 GiB", Buffer.from([255, 255, 255, 255])],
  ];
  for (const [name, bytes] of nonsense) {
    it(`rejects with PROTOCOL_ERROR on ${name}, and only that exec`, async () => {
      const { channel } = await guest((call, { call: request }) => {
        const isFirst = request.case === "exec" && request.value.id === 1n;
        if (isFirst) call.write(bytes);
        else call.end(Buffer.concat([started, exited]));
      });
      const exec = channel.exec({ stdin: true, stdout: true });
      await assert.rejects(exec.exit, code("PROTOCOL_ERROR"));
      assert.deepEqual([exec.stdin?.destroyed, exec.stdout?.destroyed], [true, true]);
      assert.deepEqual(await channel.exec({}).exit, { code: 3, signal: 0 });
    });
  }

  it("rejects when the call ends first", async () => {
    const { channel } = await guest((call) => call.end(started));
    await assert.rejects(channel.exec({ stdout: true }).exit, code("PROTOCOL_ERROR"));
  });

  it("resets streams of processes that are not, that were not asked for, or that are there already", async () => {
    const fates: Promise<unknown>[] = [];
    const { channel } = await guest(async (call, _, session) => {
      const good = attach(session, Stdio.STDOUT);
      for (const bad of [
        attach(session, Stdio.STDOUT, 77n),
        attach(session, Stdio.STDERR),
        attach(session, Stdio.STDOUT),
      ]) {
        fates.push(once(bad.resume(), "error"));
      }
      await Promise.all(fates);
      good.end("output");
      call.end(Buffer.concat([started, exited]));
    });
    const exec = channel.exec({ stdout: true });
    assert.equal(String((await once(exec.stdout ?? assert.fail(), "data"))[0]), "output");
    assert.equal((await exec.exit).code, 3);
    assert.equal(fates.length, 3);
  });

  it("ends the session on a stream that does not say whose it is", async () => {
    const { channel } = await guest(
      (_, __, session) => void session.open().write(Buffer.from([0, 0, 255, 255])),
    );
    const exec = channel.exec({ stdout: true });
    await assert.rejects(exec.exit, code("PROTOCOL_ERROR"));
    assert.equal((await channel.closed).code, "PROTOCOL_ERROR");
  });

  it("ends output at the exit, even if the guest forgets to", async () => {
    const { channel } = await guest((call, _, session) => {
      attach(session, Stdio.STDOUT).write("said before", () => call.end(Buffer.concat([started, exited])));
    });
    const exec = channel.exec({ stdout: true, stderr: true });
    await exec.exit;
    const words: string[] = [];
    for await (const chunk of exec.stdout ?? assert.fail()) words.push(String(chunk));
    assert.deepEqual(words, ["said before"]);
    assert.equal((await exec.stderr?.toArray())?.length, 0);
  });

  it("lets what arrived be read after the channel is lost, then says that it was", async () => {
    const { channel } = await guest((call, _, session) => {
      call.write(started);
      const stream = attach(session, Stdio.STDOUT);
      stream.write(Buffer.alloc(150_000), () => setImmediate(() => session.close()));
    });
    const exec = channel.exec({ stdout: true });
    await assert.rejects(exec.exit, code("CHANNEL_CLOSED"));
    let read = 0;
    const reading = (async () => {
      for await (const chunk of exec.stdout ?? assert.fail()) read += (chunk as Buffer).length;
    })();
    await assert.rejects(reading, code("CHANNEL_CLOSED"));
    assert.equal(read, 150_000);
  });

  it("reports a call that the guest does not know", async () => {
    const { channel } = await guest((call) =>
      call.end(encodeFrame(DoneSchema, { code: "UNKNOWN_CALL", message: "?" })),
    );
    await assert.rejects(channel.shutdown(0), /UNKNOWN_CALL/);
  });
});
