// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { MicrovmError, messageOf } from "../../errors.ts";
import {
  FLAG_ACK,
  FLAG_FIN,
  FLAG_RST,
  FLAG_SYN,
  type FrameHandler,
  FrameParser,
  GO_AWAY_INTERNAL_ERROR,
  GO_AWAY_NORMAL,
  GO_AWAY_PROTOCOL_ERROR,
  INITIAL_WINDOW,
  ProtocolViolation,
  TYPE_DATA,
  TYPE_GO_AWAY,
  TYPE_PING,
} from "./frame.ts";
import { Scheduler } from "./scheduler.ts";
import { YamuxStream } from "./stream.ts";
import { Substream, type SubstreamOwner } from "./substream.ts";

/** Receive window of a stream whose reader keeps up. */
const LARGE_WINDOW = 1024 * 1024;
/** All that streams may have beyond their initial windows, together. */
const EXTRA_WINDOW_TOTAL = 64 * 1024 * 1024;
/** Streams of the peer at a time, until nothing is owed to it; each can make us hold one initial window. */
const MAX_PEER_STREAMS = 512;
/** Streams of ours that the peer has not acknowledged; hashicorp/yamux refuses more than its backlog of 256. */
const MAX_UNACKNOWLEDGED = 128;
const MAX_STREAM_ID = 0xffff_fffe;

export interface YamuxOptions {
  readonly role: "client" | "server";
  /** Takes each stream the peer opens; without it, all are refused. */
  readonly onSubstream?: ((substream: Substream) => void) | undefined;
  /**
   * Takes the bytes before the session's first, until it gives back what is left of a chunk. May throw a
   * `MicrovmError`, which ends the session.
   */
  readonly preface?: ((chunk: Buffer) => Buffer | undefined) | undefined;
}

/**
 * One end of a yamux session over a byte stream (hashicorp/yamux spec.md).
 *
 * The peer is not trusted: a frame that breaks the protocol ends the session with `PROTOCOL_ERROR`, and what the peer
 * can make us hold is bounded by the windows of at most 512 streams of its own, and of ours.
 * Nothing is sent to keep the session alive: the byte stream under it ends when the peer does.
 */
export class YamuxSession implements SubstreamOwner, FrameHandler {
  readonly scheduler: Scheduler;
  /** Settles, and never rejects, when the session is over; with the reason. */
  readonly closed: Promise<MicrovmError>;
  readonly #duplex: Duplex;
  readonly #options: YamuxOptions;
  readonly #parser = new FrameParser(this);
  readonly #substreams = new Map<number, Substream>();
  readonly #resolveClosed: (reason: MicrovmError) => void;
  #preface: YamuxOptions["preface"];
  #reason: MicrovmError | undefined;
  #nextId: number;
  #highestPeerId = 0;
  #peerStreams = 0;
  #unacknowledged = 0;
  #opening: Substream[] = []; // waiting for others to be acknowledged
  #extraWindow = EXTRA_WINDOW_TOTAL;
  #peerGoesAway = false;
  #current: Substream | undefined; // of the payload that is coming in
  #payloadLeft = 0;
  #payloadFlags = 0; // of its frame; FIN and RST count after the payload

  constructor(duplex: Duplex, options: YamuxOptions) {
    this.#duplex = duplex;
    this.#options = options;
    this.#preface = options.preface;
    this.#nextId = options.role === "client" ? 1 : 2;
    this.scheduler = new Scheduler(duplex);
    const { promise, resolve } = Promise.withResolvers<MicrovmError>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    const lost = (cause?: unknown) => this.#lost(cause);
    duplex.on("error", lost);
    duplex.on("end", lost);
    duplex.on("close", lost);
    duplex.on("data", (chunk: Buffer) => this.#receive(chunk));
    if (duplex.destroyed || duplex.readableEnded) process.nextTick(lost);
  }

  get isClosed(): boolean {
    return this.#reason !== undefined;
  }

  /** Streams that have not ended in both directions. */
  get streamCount(): number {
    return this.#substreams.size;
  }

  /** Opens a stream. On a session that is over, the stream is broken from the start. */
  open(): YamuxStream {
    const stream = new YamuxStream();
    const id = this.#nextId;
    const refused =
      this.#reason ??
      (this.#peerGoesAway || id > MAX_STREAM_ID
        ? new MicrovmError("CHANNEL_CLOSED", "the peer takes no more calls", { stage: "exec" })
        : undefined);
    const substream = new Substream(this, id, true);
    stream.attach(substream);
    if (refused) {
      substream.fail(refused);
      return stream;
    }
    this.#nextId += 2;
    this.#substreams.set(id, substream);
    this.#opening.push(substream);
    this.#openNext();
    return stream;
  }

  /** Ends the session at once; what is pending fails with `CHANNEL_CLOSED`. */
  close(): void {
    this.#end(
      new MicrovmError("CHANNEL_CLOSED", "the channel was closed", { stage: "exec" }),
      GO_AWAY_NORMAL,
    );
  }

  /** Ends the session because the peer broke a protocol above this one. */
  fail(reason: MicrovmError): void {
    this.#end(reason, GO_AWAY_PROTOCOL_ERROR);
  }

  // ── the owner of its substreams ─────────────────────────────────────────────────────────────────────

  grantWindow(): number {
    const extra = Math.min(LARGE_WINDOW - INITIAL_WINDOW, this.#extraWindow);
    this.#extraWindow -= extra;
    return extra;
  }

  forget(substream: Substream): void {
    const { id } = substream;
    if (this.#substreams.get(id) !== substream) return;
    this.#substreams.delete(id);
    this.#extraWindow += substream.extraWindow;
    const waiting = substream.isOpen ? -1 : this.#opening.indexOf(substream);
    if (waiting >= 0) this.#opening.splice(waiting, 1);
  }

  /** Not before: a peer that reads nothing would let us queue as many as it likes to open and reset. */
  released(substream: Substream): void {
    if (!this.#isOurs(substream.id)) this.#peerStreams--;
    else if (substream.isOpen && !substream.isAcknowledged) this.acknowledged(substream);
  }

  acknowledged(_substream: Substream): void {
    this.#unacknowledged--;
    this.#openNext();
  }

  #openNext(): void {
    while (this.#unacknowledged < MAX_UNACKNOWLEDGED) {
      const substream = this.#opening.shift();
      if (!substream) return;
      this.#unacknowledged++;
      substream.open();
    }
  }

  #isOurs(id: number): boolean {
    return (id & 1) === (this.#nextId & 1);
  }

  // ── receiving ───────────────────────────────────────────────────────────────────────────────────────

  #receive(chunk: Buffer): void {
    if (this.#reason) return;
    try {
      let rest: Buffer | undefined = chunk;
      if (this.#preface) {
        rest = this.#preface(chunk);
        if (!rest) return;
        this.#preface = undefined;
      }
      this.#parser.push(rest);
    } catch (error) {
      if (error instanceof ProtocolViolation) this.fail(protocolError(error.message));
      else if (error instanceof MicrovmError) this.fail(error);
      else {
        // Thrown by a listener of the caller's: the chunk is lost, and so is the session. It is theirs to see.
        const reason = new MicrovmError("INTERNAL", messageOf(error), { stage: "exec", cause: error });
        this.#end(reason, GO_AWAY_INTERNAL_ERROR);
        throw error;
      }
    }
  }

  /** @internal called by the parser */
  frame(type: number, flags: number, id: number, length: number): void {
    if (type === TYPE_PING) this.#ping(flags, length);
    else if (type === TYPE_GO_AWAY) this.#goAway(length);
    else this.#streamFrame(type, flags, id, length);
  }

  /** @internal called by the parser */
  payload(piece: Buffer): void {
    this.#payloadLeft -= piece.length;
    this.#current?.receivePayload(piece);
    if (this.#payloadLeft === 0) this.#payloadEnd();
  }

  #payloadEnd(): void {
    const substream = this.#current;
    this.#current = undefined;
    if (substream && this.#substreams.get(substream.id) === substream)
      this.#endFlags(substream, this.#payloadFlags);
  }

  #streamFrame(type: number, flags: number, id: number, length: number): void {
    if (id === 0) throw new ProtocolViolation("stream frame for the session");
    if ((flags & FLAG_SYN) !== 0) this.#accept(id);
    const substream = this.#substreams.get(id);
    if (!substream) {
      this.#strayFrame(type, id, length);
      return;
    }
    if ((flags & FLAG_ACK) !== 0) substream.receiveAck();
    if (type === TYPE_DATA && length > 0) {
      substream.receiveHeader(length);
      this.#current = substream;
      this.#payloadLeft = length;
      this.#payloadFlags = flags;
      return;
    }
    if (length > 0) substream.receiveWindow(length);
    this.#endFlags(substream, flags);
  }

  #endFlags(substream: Substream, flags: number): void {
    if ((flags & FLAG_FIN) !== 0) substream.receiveFin();
    if ((flags & FLAG_RST) !== 0) {
      substream.fail(
        new MicrovmError("CHANNEL_CLOSED", `stream ${substream.id} was reset by the peer`, { stage: "exec" }),
      );
    }
  }

  /** What crossed with our reset, and nothing else. */
  #strayFrame(type: number, id: number, length: number): void {
    const known = this.#isOurs(id) ? id < this.#nextId : id <= this.#highestPeerId;
    if (!known) throw new ProtocolViolation(`frame for stream ${id}, which was never opened`);
    if (type !== TYPE_DATA) return;
    if (length > LARGE_WINDOW) throw new ProtocolViolation(`stream ${id}: data beyond the window`);
    this.#current = undefined;
    this.#payloadLeft = length;
  }

  #accept(id: number): void {
    if (this.#isOurs(id)) throw new ProtocolViolation(`stream ${id} opened by the wrong side`);
    if (this.#substreams.has(id)) throw new ProtocolViolation(`stream ${id} opened twice`);
    this.#highestPeerId = Math.max(this.#highestPeerId, id);
    if (!this.#options.onSubstream || this.#peerStreams >= MAX_PEER_STREAMS) {
      if (!this.scheduler.refuse(id)) throw new ProtocolViolation("too many streams");
      return;
    }
    this.#peerStreams++;
    const substream = new Substream(this, id, false);
    this.#substreams.set(id, substream);
    this.#options.onSubstream(substream);
  }

  #ping(flags: number, value: number): void {
    if ((flags & FLAG_SYN) === 0) return; // an answer, and we never ask
    if (!this.scheduler.pong(value, FLAG_ACK)) throw new ProtocolViolation("too many pings");
  }

  #goAway(reason: number): void {
    if (reason !== GO_AWAY_NORMAL) throw new ProtocolViolation(`the peer gave up, reason ${reason}`);
    this.#peerGoesAway = true;
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────

  #lost(cause?: unknown): void {
    const where = this.#parser.isBetweenFrames ? "" : " inside a frame";
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    const reason = new MicrovmError("CHANNEL_CLOSED", `the channel was lost${where}${why}`, {
      stage: "exec",
      cause,
    });
    this.#end(reason, GO_AWAY_NORMAL);
  }

  #end(reason: MicrovmError, goAway: number): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.scheduler.stop(goAway);
    this.#opening = [];
    for (const substream of [...this.#substreams.values()]) substream.fail(reason);
    this.#duplex.destroy();
    this.#resolveClosed(reason);
  }
}

function protocolError(message: string): MicrovmError {
  return new MicrovmError("PROTOCOL_ERROR", `protocol error of the peer: ${message}`, {
    stage: "exec",
    hint: "The guest, or whatever is at the other end, does not speak the channel's protocol correctly.",
  });
}
