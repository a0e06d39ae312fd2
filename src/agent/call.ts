// SPDX-License-Identifier: Apache-2.0
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { MicrovmError, type Stage, toMicrovmError } from "../errors.ts";
import { errorFromDone } from "./done.ts";
import { decodeMessage, encodeFrame, MAX_FRAME, protocolError, readFrames } from "./frames.ts";
import { RequestSchema } from "./gen/microvm/v1/channel_pb.ts";
import type { YamuxSession, YamuxStream } from "./yamux/index.ts";

export type Call = NonNullable<MessageInitShape<typeof RequestSchema>["call"]>;

export interface CallOptions {
  readonly stage: Stage;
  readonly signal?: AbortSignal | undefined;
}

/** Makes a call: opens its stream and writes the request. @throws MicrovmError `INVALID_OPTION`. */
export function openCall(session: YamuxSession, call: Call): YamuxStream {
  const request = encodeFrame(RequestSchema, { call });
  const stream = session.open();
  stream.write(request);
  return stream;
}

/**
 * Makes a call and hands each frame of the reply to `onFrame`, until that returns something: the result.
 * A `Done` with an error ends it too. The call is reset when it is given up, by the signal or by an error.
 */
export async function makeCall<Result>(
  session: YamuxSession,
  call: Call,
  onFrame: (frame: Uint8Array) => Result | undefined,
  { stage, signal }: CallOptions,
): Promise<Result> {
  let stream: YamuxStream | undefined;
  const abort = () => stream?.destroy(toMicrovmError(signal?.reason, stage, signal));
  try {
    signal?.throwIfAborted();
    stream = openCall(session, call);
    signal?.addEventListener("abort", abort, { once: true });
    for await (const frame of readFrames(stream, MAX_FRAME)) {
      const failure = errorFromDone(frame, stage);
      if (failure) throw failure;
      const result = onFrame(frame);
      if (result === undefined) continue;
      stream.end();
      stream.resume();
      return result;
    }
    throw protocolError(`${call.case ?? "call"}: ended without a reply`);
  } catch (error) {
    stream?.destroy();
    throw atStage(toMicrovmError(error, stage, signal), stage);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** Makes a call whose reply is one message. */
export function ask<Desc extends DescMessage>(
  session: YamuxSession,
  call: Call,
  schema: Desc,
  options: CallOptions,
): Promise<MessageShape<Desc>> {
  return makeCall(session, call, (frame) => decodeMessage(schema, frame), options);
}

/** Waits for a promise, but no longer than the signal says; that ends only the wait. */
export async function untilAborted<Result>(
  waited: Promise<Result>,
  stage: Stage,
  signal?: AbortSignal,
): Promise<Result> {
  if (!signal) return waited;
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(toMicrovmError(signal.reason, stage, signal));
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([waited, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The same error where another call met it. */
export function atStage(error: MicrovmError, stage: Stage): MicrovmError {
  if (error.stage === stage || error.code === "INVALID_OPTION") return error;
  const { hint, evidence } = error;
  return new MicrovmError(error.code, error.message, { stage, hint, evidence, cause: error });
}
