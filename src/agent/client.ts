// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { packageVersion } from "../internal/package.ts";
import type { Call } from "./call.ts";
import { RemoteExec } from "./exec.ts";
import { decodeMessage, FrameDecoder } from "./frames.ts";
import { type Attach, AttachSchema } from "./gen/microvm/v1/channel_pb.ts";
import { helloReader, writeHello } from "./hello.ts";
import { printable } from "./printable.ts";
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
  /** Of the peer's Hello. Needs no handler. */
  readonly peerVersion: Promise<string>;
  readonly #execs = new Map<bigint, RemoteExec>();
  #nextId = 1n;

  constructor(duplex: Duplex) {
    const hello = Promise.withResolvers<string>();
    this.peerVersion = hello.promise;
    this.peerVersion.catch(() => {}); // the session's end is told to every call too
    writeHello(duplex, packageVersion());
    this.session = new YamuxSession(duplex, {
      role: "client",
      preface: helloReader(({ version }) => hello.resolve(printable(version, 64))),
      onSubstream: (substream) => this.#accept(substream),
    });
    this.session.closed.then(hello.reject);
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
