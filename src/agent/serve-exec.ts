// SPDX-License-Identifier: Apache-2.0
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { execFailure } from "./exec-failure.ts";
import { decodeMessage, encodeFrame } from "./frames.ts";
import {
  AttachSchema,
  ExecControlSchema,
  ExecEventSchema,
  Attach_Stdio as Stdio,
} from "./gen/microvm/v1/channel_pb.ts";
import type { Exec, ExitStatus } from "./types.ts";
import type { YamuxSession, YamuxStream } from "./yamux/index.ts";

export interface ExecRequest {
  /** Chosen by the client; names the process in the Attach headers. */
  readonly id: bigint;
  readonly stdin: boolean;
  /** Whether the process goes on when the call is given up. */
  readonly outlivesCall: boolean;
  /** @param signal - aborted when the call is over */
  start(signal: AbortSignal): Exec | Promise<Exec>;
}

/** Serves one exec or attach: its stdio as streams to the client, its events and controls on the call's own. */
export async function serveExec(
  session: YamuxSession,
  call: YamuxStream,
  controls: AsyncIterable<Uint8Array>,
  request: ExecRequest,
): Promise<void> {
  const over = new AbortController();
  const streams: YamuxStream[] = [];
  let exec: Exec | undefined;
  let isGone = false;
  const leave = () => {
    isGone = true;
    over.abort();
    if (exec && !request.outlivesCall) void exec[Symbol.asyncDispose]();
    for (const stream of streams) stream.destroy();
  };
  call.once("close", leave);
  try {
    exec = await request.start(over.signal);
    const pid = await exec.pid;
    if (isGone) {
      leave();
      return;
    }
    const open = (stdio: Stdio) => {
      const stream = session.open();
      streams.push(stream);
      return openStdio(stream, request.id, stdio);
    };
    const [stdin, stdout, stderr] = await Promise.all([
      exec.stdin && request.stdin ? open(Stdio.STDIN) : undefined,
      exec.stdout && open(Stdio.STDOUT),
      exec.stderr && open(Stdio.STDERR),
    ]);
    if (stdin && exec.stdin) pipeline(stdin, exec.stdin).catch(() => {}); // either end may go first
    const output = Promise.all([sendOutput(exec.stdout, stdout), sendOutput(exec.stderr, stderr)]);

    call.write(encodeFrame(ExecEventSchema, { event: { case: "started", value: { pid } } }));
    void forwardControls(controls, exec, call);
    const status = await exec.exit;
    await output;
    stdin?.destroy();
    call.end(exitedFrame(status));
  } catch (error) {
    for (const stream of streams) stream.destroy();
    if (!call.destroyed) {
      call.end(encodeFrame(ExecEventSchema, { event: { case: "failed", value: execFailure(error) } }));
    }
  } finally {
    call.removeListener("close", leave);
    over.abort();
  }
}

/** Settles when the client's session has the header: before anything that the call says next. */
function openStdio(stream: YamuxStream, execId: bigint, stdio: Stdio): Promise<YamuxStream> {
  const { promise, resolve, reject } = Promise.withResolvers<YamuxStream>();
  stream.write(encodeFrame(AttachSchema, { execId, stdio }), (error) => {
    if (error) reject(error);
    else resolve(stream);
  });
  return promise;
}

/** Copies one output to its end, at the client's pace. A client that closes it closes it for the process too. */
async function sendOutput(source: Readable | undefined, stream: YamuxStream | undefined): Promise<void> {
  if (!source || !stream) return;
  stream.resume(); // the client says nothing here but that it has ended
  try {
    await pipeline(source, stream);
  } catch {
    // One end broke and the pipeline closed the other. How the process ended is what matters.
  }
}

async function forwardControls(
  controls: AsyncIterable<Uint8Array>,
  exec: Exec,
  call: YamuxStream,
): Promise<void> {
  try {
    for await (const frame of controls) {
      const { control } = decodeMessage(ExecControlSchema, frame);
      if (control.case === "signal") exec.kill(control.value);
      else if (control.case === "resize") exec.resize(control.value);
    }
  } catch {
    call.destroy(); // reset by the client, or nonsense from it: the call is given up
  }
}

function exitedFrame({ code, signal }: ExitStatus): Buffer {
  return encodeFrame(ExecEventSchema, { event: { case: "exited", value: { code, signal } } });
}
