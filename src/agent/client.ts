// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { type MicrovmError, toMicrovmError } from "../errors.ts";
import { packageVersion } from "../internal/package.ts";
import type { Call } from "./call.ts";
import { RemoteExec } from "./exec.ts";
import { decodeMessage, FrameDecoder } from "./frames.ts";
import { type Attach, AttachSchema } from "./gen/microvm/v1/channel_pb.ts";
import { helloReader, writeHello } from "./hello.ts";
import type { WaitOptions } from "./types.ts";
import { type Substream, YamuxSession } from "./yamux/index.ts";

const MAX_ATTACH = 64;

/** What a process is asked for: the call with the id it is given, and the streams the peer will open for it. */
export interface ExecCall {
  readonly call: (id: bigint) => Call;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

/** The calling end of a channel, be it to a guest or to a machine's api.sock. */
export class CallClient {
  readonly session: YamuxSession;
  readonly peerVersion: Promise<string>;
  readonly #execs = new Map<bigint, RemoteExec>();
  #nextId = 1n;

  constructor(duplex: Duplex) {
    const hello = Promise.withResolvers<string>();
    this.peerVersion = hello.promise;
    this.peerVersion.catch(() => {}); // whoever connects waits for it
    writeHello(duplex, packageVersion());
    this.session = new YamuxSession(duplex, {
      role: "client",
      preface: helloReader(({ version }) => hello.resolve(version)),
      onSubstream: (substream) => this.#accept(substream),
    });
    this.session.closed.then(hello.reject);
  }

  /** Waits for the peer's Hello. Closes the session if that does not come. */
  async connected(signal?: AbortSignal): Promise<string> {
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = () => reject(toMicrovmError(signal?.reason, "boot", signal));
    try {
      if (signal?.aborted) abort();
      signal?.addEventListener("abort", abort, { once: true });
      return await Promise.race([this.peerVersion, promise]);
    } catch (error) {
      this.session.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  get closed(): Promise<MicrovmError> {
    return this.session.closed;
  }

  exec(request: ExecCall, { signal }: WaitOptions = {}): RemoteExec {
    const id = this.#nextId++;
    const exec = new RemoteExec(request, () => this.#execs.delete(id));
    this.#execs.set(id, exec);
    exec.start(this.session, request.call(id), signal);
    return exec;
  }

  /** A stream of the peer's: its first frame says which stdio of which process it is. Anything else is reset. */
  #accept(substream: Substream): void {
    const decoder = new FrameDecoder(MAX_ATTACH);
    substream.consume({
      onData: (chunk) => {
        decoder.push(chunk);
        const frame = decoder.next();
        if (!frame) return true;
        this.#attach(substream, decodeMessage(AttachSchema, frame), decoder.rest());
        return false;
      },
      onEnd: () => substream.reset(),
      onFailure: () => {},
    });
    substream.resume();
  }

  #attach(substream: Substream, { execId, stdio }: Attach, rest: Buffer): void {
    const stream = this.#execs.get(execId)?.expects(stdio);
    if (!stream) {
      substream.reset(); // given up meanwhile
      return;
    }
    substream.unshift(rest);
    stream.attach(substream);
  }
}
