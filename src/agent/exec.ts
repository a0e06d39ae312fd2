// SPDX-License-Identifier: Apache-2.0
import type { MessageInitShape } from "@bufbuild/protobuf";
import { MicrovmError, toMicrovmError } from "../errors.ts";
import { type Call, openCall } from "./call.ts";
import type { ExecCall } from "./client.ts";
import { execError } from "./exec-failure.ts";
import { decodeMessage, encodeFrame, FrameDecoder, MAX_EVENT, protocolError } from "./frames.ts";
import {
  Attach_Stdio,
  ExecControlSchema,
  type ExecEvent,
  ExecEventSchema,
} from "./gen/microvm/v1/channel_pb.ts";
import type { Exec, ExitStatus, TerminalSize } from "./types.ts";
import { type YamuxSession, YamuxStream } from "./yamux/index.ts";

/** The calling end of one exec, or of an attach to a workload. */
export class RemoteExec implements Exec {
  readonly stdin: YamuxStream | undefined;
  readonly stdout: YamuxStream | undefined;
  readonly stderr: YamuxStream | undefined;
  readonly pid: Promise<number>;
  readonly exit: Promise<ExitStatus>;
  readonly #pid = Promise.withResolvers<number>();
  readonly #exit = Promise.withResolvers<ExitStatus>();
  readonly #unregister: () => void;
  readonly #decoder = new FrameDecoder(MAX_EVENT);
  #call: YamuxStream | undefined;
  #isStarted = false;
  #isSettled = false;
  #stopWatching = () => {};

  constructor({ stdin, stdout, stderr }: ExecCall, unregister: () => void) {
    this.stdin = stdin ? new YamuxStream({ readable: false }) : undefined;
    this.stdout = stdout ? new YamuxStream({ writable: false }) : undefined;
    this.stderr = stderr ? new YamuxStream({ writable: false }) : undefined;
    this.pid = this.#pid.promise;
    this.exit = this.#exit.promise;
    // Both say the same, and a caller may look at one only, or at none.
    this.pid.catch(() => {});
    this.exit.catch(() => {});
    this.#unregister = unregister;
  }

  /** Sends the request; the streams the peer opens find this exec by then. */
  start(session: YamuxSession, request: Call, signal?: AbortSignal): void {
    const abort = () => this.#fail(toMicrovmError(signal?.reason, "exec", signal));
    if (signal?.aborted) {
      abort();
      return;
    }
    try {
      this.#call = openCall(session, request);
    } catch (error) {
      this.#fail(toMicrovmError(error, "exec"));
      return;
    }
    signal?.addEventListener("abort", abort, { once: true });
    this.#stopWatching = () => signal?.removeEventListener("abort", abort);
    this.#call
      .on("data", (chunk: Buffer) => this.#receive(chunk))
      .on("end", () => this.#fail(protocolError("the call ended before the process did")))
      .on("error", (error) => this.#fail(toMicrovmError(error, "exec")))
      .on("close", () =>
        this.#fail(new MicrovmError("CHANNEL_CLOSED", "the call was closed", { stage: "exec" })),
      );
  }

  /** The stream that waits for this stdio to be opened, if there is one. */
  expects(stdio: Attach_Stdio): YamuxStream | undefined {
    const stream = this.#stdio(stdio);
    return stream && !stream.isAttached && !this.#isSettled ? stream : undefined;
  }

  kill(signal: number): void {
    this.#control({ control: { case: "signal", value: signal } });
  }

  resize({ rows, columns }: TerminalSize): void {
    this.#control({ control: { case: "resize", value: { rows, columns } } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new MicrovmError("ABORTED", "given up before its end", { stage: "exec" }));
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream?.destroy();
  }

  #stdio(stdio: Attach_Stdio): YamuxStream | undefined {
    if (stdio === Attach_Stdio.STDIN) return this.stdin;
    if (stdio === Attach_Stdio.STDOUT) return this.stdout;
    return stdio === Attach_Stdio.STDERR ? this.stderr : undefined;
  }

  #control(message: MessageInitShape<typeof ExecControlSchema>): void {
    if (!this.#isSettled) this.#call?.write(encodeFrame(ExecControlSchema, message));
  }

  #receive(chunk: Buffer): void {
    try {
      this.#decoder.push(chunk);
      for (let frame = this.#decoder.next(); frame && !this.#isSettled; frame = this.#decoder.next()) {
        this.#event(decodeMessage(ExecEventSchema, frame));
      }
    } catch (error) {
      this.#fail(toMicrovmError(error, "exec"));
    }
  }

  #event({ event }: ExecEvent): void {
    if (event.case === "started" && !this.#isStarted) {
      this.#isStarted = true;
      this.#pid.resolve(event.value.pid);
    } else if (event.case === "exited" && this.#isStarted) {
      this.#finish({ code: event.value.code, signal: event.value.signal });
    } else if (event.case === "failed") {
      this.#end(execError(event.value));
    } else {
      throw protocolError(`unexpected event of a process: ${event.case ?? "none"}`);
    }
  }

  #finish(status: ExitStatus): void {
    if (!this.#settle()) return;
    this.#endStdio();
    // A reader that keeps up sees the end of its stream first: `end` comes on this turn of the event loop.
    if ([this.stdout, this.stderr].every((stream) => stream?.readableEnded ?? true))
      this.#exit.resolve(status);
    else setImmediate(() => this.#exit.resolve(status));
  }

  /** The guest says that it failed: nothing ran, there is nothing to read. */
  #end(error: MicrovmError): void {
    if (!this.#settle()) return;
    this.#endStdio();
    this.#reject(error);
  }

  /** The call is lost or was given up. */
  #fail(error: MicrovmError): void {
    if (!this.#settle()) return;
    this.#call?.destroy();
    for (const stream of [this.stdin, this.stdout, this.stderr]) stream?.fail(error);
    this.#reject(error);
  }

  #settle(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.#unregister();
    this.#stopWatching();
    this.#call?.end();
    return true;
  }

  #endStdio(): void {
    this.stdin?.destroy();
    this.stdout?.truncate();
    this.stderr?.truncate();
  }

  #reject(error: MicrovmError): void {
    this.#pid.reject(error);
    this.#exit.reject(error);
  }
}
