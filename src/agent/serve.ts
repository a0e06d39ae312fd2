// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { MicrovmError } from "../errors.ts";
import { packageVersion } from "../internal/package.ts";
import { doneFrame } from "./done.ts";
import { decodeMessage, encodeFrame, MAX_FRAME, readFrames } from "./frames.ts";
import {
  InspectionSchema,
  type Request,
  RequestSchema,
  WaitDoneSchema,
} from "./gen/microvm/v1/channel_pb.ts";
import { helloReader, writeHello } from "./hello.ts";
import { type ExecRequest, serveExec } from "./serve-exec.ts";
import type { CallServer, MachineCalls } from "./types.ts";
import { YamuxSession, YamuxStream } from "./yamux/index.ts";

/**
 * Plays the guest's part towards one client: answers the calls of a machine's api.sock.
 *
 * Calls run side by side. A client that breaks the protocol loses its connection; a call that fails or that is not
 * known is answered with an error. Never throws.
 *
 * @param duplex - a connection that was accepted; it is the server's from now on
 * @param calls - what the machine does
 */
export function serveCalls(duplex: Duplex, calls: MachineCalls): CallServer {
  writeHello(duplex, packageVersion());
  const session: YamuxSession = new YamuxSession(duplex, {
    role: "server",
    preface: helloReader(() => {}),
    onSubstream: (substream) => {
      const stream = new YamuxStream();
      stream.attach(substream);
      void serveCall(session, stream, calls);
    },
  });
  return { closed: session.closed, close: () => session.close() };
}

async function serveCall(session: YamuxSession, stream: YamuxStream, calls: MachineCalls): Promise<void> {
  try {
    const frames = readFrames(stream, MAX_FRAME);
    const first = await frames.next();
    if (first.done) throw new MicrovmError("PROTOCOL_ERROR", "a call without a request", { stage: "exec" });
    const { call } = decodeMessage(RequestSchema, first.value);
    const exec = execRequest(call, calls);
    if (exec) await serveExec(session, stream, frames, exec);
    else stream.end(await answer(stream, call, calls));
    stream.resume();
  } catch (error) {
    if (!stream.destroyed) stream.end(doneFrame(error));
    stream.resume();
  }
}

function execRequest(call: Request["call"], calls: MachineCalls): ExecRequest | undefined {
  if (call.case === "exec") {
    const { id, $typeName, $unknown, ...spec } = call.value;
    // Only the machine itself has a workload to start.
    return {
      id,
      stdin: spec.stdin,
      outlivesCall: false,
      start: () => calls.exec({ ...spec, workload: false }),
    };
  }
  if (call.case === "attach") {
    const { id, stdin } = call.value;
    return { id, stdin, outlivesCall: true, start: (signal) => calls.attach({ stdin }, signal) };
  }
  return undefined;
}

/** The frame that answers a call of one question and one answer. */
async function answer(stream: YamuxStream, call: Request["call"], calls: MachineCalls): Promise<Buffer> {
  switch (call.case) {
    case "wait": {
      const gone = new AbortController();
      stream.once("close", () => gone.abort());
      const { code, error } = await calls.wait(gone.signal);
      return reply(WaitDoneSchema, { code, error: error ?? "" });
    }
    case "stop":
      await calls.stop(call.value.timeoutMillis);
      return doneFrame();
    case "kill":
      await calls.kill(call.value.signal);
      return doneFrame();
    case "inspect":
      return reply(InspectionSchema, { json: await calls.inspect() });
    default:
      throw new MicrovmError(
        "PROTOCOL_ERROR",
        `a machine does not serve the call ${call.case ?? "of this kind"}`,
        {
          stage: "exec",
          hint: "Use a client of the same release as the machine's monitor.",
        },
      );
  }
}

function reply<Desc extends DescMessage>(schema: Desc, message: MessageInitShape<Desc>): Buffer {
  return encodeFrame(schema, message);
}
