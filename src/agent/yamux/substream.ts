// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import type { Batch } from "./batch.ts";
import {
  FLAG_ACK,
  FLAG_FIN,
  FLAG_RST,
  FLAG_SYN,
  INITIAL_WINDOW,
  ProtocolViolation,
  TYPE_WINDOW_UPDATE,
} from "./frame.ts";
import { Inbox } from "./inbox.ts";
import type { Scheduler, Sender } from "./scheduler.ts";

const MAX_UINT32 = 0xffff_ffff;

/** Who reads a substream, and hears of its end. */
export interface Consumer {
  /** Bytes in order. False: no more until `resume`. */
  onData(chunk: Buffer): boolean;
  /** The peer's last byte was delivered. */
  onEnd(): void;
  /** Reset, or the session is gone; delivered after the bytes that came before. */
  onFailure(error: MicrovmError): void;
}

/** The session, as its substreams see it. */
export interface SubstreamOwner {
  readonly scheduler: Scheduler;
  /** Asks for receive window beyond the initial one; the answer may be 0. */
  grantWindow(): number;
  /** No frame will come or go any more. */
  forget(substream: Substream): void;
  /** The peer knows the substream now, or never will. */
  acknowledged(substream: Substream): void;
}

export type WriteCallback = (error?: Error | null) => void;

/**
 * The protocol of one stream: windows, half-closes, resets. No queue of its own grows beyond the receive window.
 * `YamuxStream` makes a `Duplex` of it.
 */
export class Substream implements Sender {
  readonly id: number;
  readonly #owner: SubstreamOwner;

  // receiving
  #receiveWindow = INITIAL_WINDOW;
  #windowLimit = INITIAL_WINDOW;
  #extraWindow = 0;
  #consumed = 0; // since the last window update
  readonly #inbox = new Inbox();
  #consumer: Consumer | undefined;
  #wantsData = false;
  #isDelivering = false;
  #finReceived = false;
  #endDelivered = false;
  #failure: MicrovmError | undefined;

  // sending
  #sendWindow = INITIAL_WINDOW;
  #chunks: readonly Uint8Array[] = [];
  #chunkIndex = 0;
  #chunkOffset = 0;
  #writeCallback: WriteCallback | undefined;
  #endCallback: WriteCallback | undefined;
  #finWanted = false;
  #finSent = false;

  // protocol
  #pendingFlags: number;
  #isOpen: boolean; // the SYN is out, or was received
  #isAcknowledged: boolean;
  #inControl = false;
  #inData = false;
  #isForgotten = false;

  constructor(owner: SubstreamOwner, id: number, isOurs: boolean) {
    this.#owner = owner;
    this.id = id;
    this.#isOpen = !isOurs;
    this.#isAcknowledged = !isOurs;
    this.#pendingFlags = isOurs ? FLAG_SYN : FLAG_ACK;
    if (!isOurs) this.#queueControl();
  }

  /** Beyond the initial window; given back when the substream is forgotten. */
  get extraWindow(): number {
    return this.#extraWindow;
  }

  get isAcknowledged(): boolean {
    return this.#isAcknowledged;
  }

  /** Says SYN, and from then on sends. For a substream of ours. */
  open(): void {
    if (this.#isForgotten) return;
    this.#isOpen = true;
    this.#queueControl();
    this.#queueData();
  }

  // ── reading ─────────────────────────────────────────────────────────────────────────────────────────

  /** Hands the substream to a consumer, which gets what arrived so far once it asks with `resume`. */
  consume(consumer: Consumer): void {
    this.#consumer = consumer;
    this.#wantsData = false;
    if (this.#failure && this.#inbox.length === 0) consumer.onFailure(this.#failure);
  }

  /** Puts back what a consumer took too much of; before `consume` names the next one. */
  unshift(rest: Buffer): void {
    const later: Buffer[] = [];
    for (let chunk = this.#inbox.take(); chunk; chunk = this.#inbox.take()) later.push(chunk);
    this.#inbox.add(rest);
    for (const chunk of later) this.#inbox.add(chunk);
    this.#consumed -= rest.length;
  }

  resume(): void {
    this.#wantsData = true;
    if (!this.#isDelivering) this.#deliver();
  }

  #deliver(): void {
    this.#isDelivering = true;
    while (this.#wantsData && this.#consumer) {
      const chunk = this.#inbox.take();
      if (!chunk) break;
      this.#hand(chunk);
    }
    this.#isDelivering = false;
    if (this.#inbox.length > 0) return;
    if (this.#failure) this.#consumer?.onFailure(this.#failure);
    else if (this.#finReceived && this.#wantsData && !this.#endDelivered) {
      this.#endDelivered = true;
      this.#consumer?.onEnd();
    }
  }

  #hand(chunk: Buffer): void {
    this.#wantsData = false; // unless a `resume` comes meanwhile
    if (this.#consumer?.onData(chunk)) this.#wantsData = true;
    this.#consumed += chunk.length;
    if (this.#consumed < this.#windowLimit / 2 || this.#finReceived || this.#isForgotten) return;
    if (this.#extraWindow === 0) {
      // It is read: worth more than the initial window, if the session has some to give.
      this.#extraWindow = this.#owner.grantWindow();
      this.#windowLimit += this.#extraWindow;
      this.#consumed += this.#extraWindow;
    }
    this.#queueControl();
  }

  // ── frames of the peer ──────────────────────────────────────────────────────────────────────────────

  /** The header of a data frame, before its payload. */
  receiveData(length: number): void {
    if (length > this.#receiveWindow)
      throw new ProtocolViolation(`stream ${this.id}: data beyond the window`);
    if (this.#finReceived && length > 0) throw new ProtocolViolation(`stream ${this.id}: data after the end`);
    this.#receiveWindow -= length;
  }

  receivePayload(piece: Buffer): void {
    if (this.#isForgotten) return;
    if (!this.#wantsData || this.#isDelivering || this.#inbox.length > 0) {
      this.#inbox.add(piece);
      return;
    }
    this.#isDelivering = true;
    this.#hand(piece);
    this.#isDelivering = false;
    // What the consumer did meanwhile: put bytes back, or see the end of it.
    if (this.#inbox.length > 0 || this.#isForgotten) this.#deliver();
  }

  receiveWindow(delta: number): void {
    this.#sendWindow += delta;
    if (this.#sendWindow > MAX_UINT32) throw new ProtocolViolation(`stream ${this.id}: window overflow`);
    this.#queueData();
  }

  receiveAck(): void {
    if (this.#isAcknowledged || !this.#isOpen)
      throw new ProtocolViolation(`stream ${this.id}: unexpected ACK`);
    this.#isAcknowledged = true;
    this.#owner.acknowledged(this);
  }

  /** The end of the peer's bytes: after the payload of the frame that says so. */
  receiveFin(): void {
    if (this.#finReceived) throw new ProtocolViolation(`stream ${this.id}: ended twice`);
    this.#finReceived = true;
    this.#forgetIfDone();
    if (this.#inbox.length === 0 && this.#wantsData && !this.#isDelivering) this.#deliver();
  }

  // ── sending ─────────────────────────────────────────────────────────────────────────────────────────

  /** One write at a time: the next one after `done`. The chunks may be changed after `done`. */
  write(chunks: readonly Uint8Array[], done: WriteCallback): void {
    if (this.#failure || this.#isForgotten) {
      done(this.#failure ?? resetError(this.id));
      return;
    }
    this.#chunks = chunks;
    this.#chunkIndex = 0;
    this.#chunkOffset = 0;
    this.#writeCallback = done;
    this.#skipEmpty();
    if (this.#hasData()) this.#queueData();
    else this.#finishWrite();
  }

  /** Half-closes: `done` once the end is on its way. */
  end(done: WriteCallback): void {
    if (this.#failure || this.#isForgotten) {
      done(this.#failure ?? null);
      return;
    }
    this.#finWanted = true;
    this.#endCallback = done;
    this.#queueData();
  }

  takeControl(batch: Batch): void {
    this.#inControl = false;
    const flags = this.#pendingFlags;
    const delta = this.#finReceived ? 0 : this.#consumed;
    const announces = delta >= this.#windowLimit / 2 && (flags & FLAG_RST) === 0;
    if (this.#isForgotten && (flags & FLAG_RST) === 0) return;
    if (flags === 0 && !announces) return;
    this.#pendingFlags = 0;
    if (announces) {
      this.#receiveWindow += delta;
      this.#consumed = 0;
    }
    batch.header(TYPE_WINDOW_UPDATE, flags, this.id, announces ? delta : 0);
  }

  takeData(batch: Batch, limit: number): boolean {
    this.#inData = false;
    if (this.#isForgotten) return false;
    let room = Math.min(limit, this.#sendWindow);
    while (room > 0 && batch.hasRoom) {
      const chunk = this.#chunks[this.#chunkIndex];
      if (!chunk) break;
      const rest = chunk.length - this.#chunkOffset;
      const size = Math.min(room, rest);
      const whole = size === chunk.length;
      batch.data(this.id, whole ? chunk : chunk.subarray(this.#chunkOffset, this.#chunkOffset + size));
      this.#sendWindow -= size;
      room -= size;
      this.#chunkOffset += size;
      this.#skipEmpty();
    }
    if (!this.#hasData() && this.#finWanted && !this.#finSent && batch.hasRoom) {
      this.#finSent = true;
      batch.header(TYPE_WINDOW_UPDATE, FLAG_FIN, this.id, 0);
    }
    this.#inData = this.#canSend();
    return this.#inData;
  }

  written(): void {
    if (!this.#hasData()) this.#finishWrite();
    if (!this.#finSent) return;
    const done = this.#endCallback;
    this.#endCallback = undefined;
    done?.(null);
    this.#forgetIfDone();
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The consumer wants nothing more. What it wrote and ended still goes out; anything half done is reset.
   *
   * @param readsToEnd - whether bytes of the peer were expected: then its not having ended is a reset too
   */
  release(readsToEnd: boolean): void {
    this.#consumer = DISCARD;
    this.#inbox.clear();
    if (this.#isForgotten) return;
    if (this.#finWanted && (this.#finReceived || !readsToEnd)) this.resume();
    else this.reset();
  }

  /** Ends both directions at once; the peer is told. */
  reset(error: MicrovmError = resetError(this.id)): void {
    if (this.#isForgotten) return;
    if (this.#isOpen && (this.#pendingFlags & FLAG_SYN) === 0) {
      this.#pendingFlags = FLAG_RST;
      this.#queueControl();
    }
    this.fail(error);
  }

  /** Resets it, but to the consumer it looks as if the peer had ended it here. */
  truncate(): void {
    if (this.#isForgotten || this.#finReceived) return;
    this.#finReceived = true;
    this.#pendingFlags = FLAG_RST;
    this.#queueControl();
    this.#forget();
    if (!this.#isDelivering) this.#deliver();
  }

  /** The peer reset it, or the session is gone. */
  fail(error: MicrovmError): void {
    if (this.#isForgotten) return;
    this.#failure = error;
    this.#forget();
    const writeDone = this.#writeCallback;
    const endDone = this.#endCallback;
    this.#writeCallback = undefined;
    this.#endCallback = undefined;
    this.#chunks = [];
    writeDone?.(error);
    endDone?.(error);
    if (this.#inbox.length === 0 && !this.#isDelivering) this.#consumer?.onFailure(error);
  }

  #finishWrite(): void {
    const done = this.#writeCallback;
    if (!done) return;
    this.#writeCallback = undefined;
    this.#chunks = [];
    done(null);
  }

  #skipEmpty(): void {
    for (;;) {
      const chunk = this.#chunks[this.#chunkIndex];
      if (!chunk || this.#chunkOffset < chunk.length) return;
      this.#chunkIndex++;
      this.#chunkOffset = 0;
    }
  }

  #hasData(): boolean {
    return this.#chunkIndex < this.#chunks.length;
  }

  #canSend(): boolean {
    if (!this.#isOpen || this.#isForgotten) return false;
    return this.#hasData() ? this.#sendWindow > 0 : this.#finWanted && !this.#finSent;
  }

  #queueControl(): void {
    if (this.#inControl) return;
    this.#inControl = true;
    this.#owner.scheduler.control(this);
  }

  #queueData(): void {
    if (this.#inData || !this.#canSend()) return;
    this.#inData = true;
    this.#owner.scheduler.data(this);
  }

  #forgetIfDone(): void {
    if (this.#finSent && this.#finReceived && this.#endCallback === undefined) this.#forget();
  }

  #forget(): void {
    if (this.#isForgotten) return;
    this.#isForgotten = true;
    this.#owner.forget(this);
  }
}

const DISCARD: Consumer = { onData: () => true, onEnd: () => {}, onFailure: () => {} };

function resetError(id: number): MicrovmError {
  return new MicrovmError("CHANNEL_CLOSED", `stream ${id} was reset`, { stage: "exec" });
}
