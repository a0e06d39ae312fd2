// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import type { Batch } from "./batch.ts";
import { FLAG_ACK, FLAG_RST, FLAG_SYN, ProtocolViolation, TYPE_WINDOW_UPDATE } from "./frame.ts";
import { type Consumer, Inbound, type InboundOwner } from "./inbound.ts";
import { Outbound, type WriteCallback } from "./outbound.ts";
import type { Scheduler, Sender } from "./scheduler.ts";

/** The session, as its substreams see it. */
export interface SubstreamOwner {
  readonly scheduler: Scheduler;
  /** Asks for receive window beyond the initial one; the answer may be 0. */
  grantWindow(): number;
  /** No frame will come or go any more, but a reset. */
  forget(substream: Substream): void;
  /** After `forget`, and once nothing of it waits for the socket: only now does it cost nothing. */
  released(substream: Substream): void;
  /** The peer knows the substream now. */
  acknowledged(substream: Substream): void;
}

/** The protocol of one stream: its two halves, how it begins and how it ends. `YamuxStream` makes a `Duplex` of it. */
export class Substream implements Sender, InboundOwner {
  readonly id: number;
  readonly #owner: SubstreamOwner;
  readonly #inbound = new Inbound(this);
  readonly #outbound: Outbound;
  #pendingFlags: number;
  #isOpen: boolean; // the SYN may go, or was received
  #isAcknowledged: boolean;
  #inControl = false; // queued at the scheduler
  #inData = false; // likewise
  #isForgotten = false;
  #failure: MicrovmError | undefined;

  constructor(owner: SubstreamOwner, id: number, isOurs: boolean) {
    this.#owner = owner;
    this.id = id;
    this.#outbound = new Outbound(id);
    this.#isOpen = !isOurs;
    this.#isAcknowledged = !isOurs;
    this.#pendingFlags = isOurs ? FLAG_SYN : FLAG_ACK;
    if (!isOurs) this.announce();
  }

  /** Beyond the initial window; the session's again once the substream is forgotten. */
  get extraWindow(): number {
    return this.#inbound.extraWindow;
  }

  /** Whether the peer has opened it, or may have heard that we have. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  get isAcknowledged(): boolean {
    return this.#isAcknowledged;
  }

  /** Says SYN, and from then on sends. For a substream of ours. */
  open(): void {
    this.#isOpen = true;
    this.announce();
    this.#queueData();
  }

  // ── reading ─────────────────────────────────────────────────────────────────────────────────────────

  /** Names who reads; who gets what arrived so far once it asks with `resume`. */
  consume(consumer: Consumer): void {
    this.#inbound.consume(consumer);
  }

  resume(): void {
    this.#inbound.resume();
  }

  /** Puts back what a consumer took too much of; before the next one is named. */
  unshift(rest: Buffer): void {
    this.#inbound.unshift(rest);
  }

  /** @internal called by the receiving half */
  grantWindow(): number {
    return this.#owner.grantWindow();
  }

  // ── writing ─────────────────────────────────────────────────────────────────────────────────────────

  /** One write at a time: the next one after `done`, and the chunks are not to be changed before. */
  write(chunks: readonly Uint8Array[], done: WriteCallback): void {
    if (this.#isForgotten) {
      done(this.#failure ?? resetError(this.id));
      return;
    }
    this.#outbound.write(chunks, done);
    this.#queueData();
  }

  /** Half-closes: `done` once the end is on its way. */
  end(done: WriteCallback): void {
    if (this.#isForgotten) {
      done(this.#failure ?? null);
      return;
    }
    this.#outbound.end(done);
    this.#queueData();
  }

  // ── frames of the peer ──────────────────────────────────────────────────────────────────────────────

  receiveHeader(length: number): void {
    this.#inbound.expect(length);
  }

  receivePayload(piece: Buffer): void {
    this.#inbound.receive(piece);
  }

  receiveWindow(delta: number): void {
    this.#outbound.grant(delta);
    this.#queueData();
  }

  receiveAck(): void {
    if (this.#isAcknowledged || !this.#isOpen)
      throw new ProtocolViolation(`stream ${this.id}: unexpected ACK`);
    this.#isAcknowledged = true;
    this.#owner.acknowledged(this);
  }

  /** After the payload of the frame that says so. */
  receiveFin(): void {
    this.#inbound.end();
    this.#forgetIfDone();
  }

  // ── the scheduler's turns ───────────────────────────────────────────────────────────────────────────

  /** Queues what is not data: flags and window updates. */
  announce(): void {
    if (this.#inControl || this.#isForgotten) return;
    this.#inControl = true;
    this.#owner.scheduler.control(this);
  }

  takeControl(batch: Batch): void {
    this.#inControl = false;
    this.#releaseIfIdle();
    const flags = this.#pendingFlags;
    if (this.#isForgotten && (flags & FLAG_RST) === 0) return;
    const credit = this.#inbound.takeCredit();
    if (flags === 0 && credit === 0) return;
    this.#pendingFlags = 0;
    batch.header(TYPE_WINDOW_UPDATE, flags, this.id, credit);
  }

  takeData(batch: Batch, limit: number): boolean {
    this.#inData = false;
    this.#releaseIfIdle();
    if (this.#isForgotten) return false;
    this.#outbound.take(batch, limit);
    this.#inData = this.#outbound.canSend;
    return this.#inData;
  }

  written(): void {
    this.#outbound.written();
    this.#forgetIfDone();
  }

  #queueData(): void {
    if (this.#inData || !this.#isOpen || this.#isForgotten || !this.#outbound.canSend) return;
    this.#inData = true;
    this.#owner.scheduler.data(this);
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The consumer wants nothing more. What it wrote and ended still goes out; anything half done is reset.
   *
   * @param readsToEnd - whether bytes of the peer were expected: then its not having ended is a reset too
   */
  release(readsToEnd: boolean): void {
    if (!this.#outbound.isEnding || (readsToEnd && !this.#inbound.isEnded)) this.reset();
    this.#inbound.discard();
  }

  /** Ends both directions at once; the peer is told. What arrived can still be read, then comes the error. */
  reset(error: MicrovmError = resetError(this.id)): void {
    this.#resetPeer();
    this.fail(error);
  }

  /** The same, but to the consumer it looks as if the peer had ended it here. */
  truncate(): void {
    if (this.#isForgotten || this.#inbound.isEnded) return;
    this.#resetPeer();
    this.#forget();
    this.#outbound.fail(resetError(this.id));
    this.#inbound.close();
  }

  /** The peer reset it, or the session is gone. */
  fail(error: MicrovmError): void {
    if (this.#isForgotten) return;
    this.#failure = error;
    this.#forget();
    this.#outbound.fail(error);
    this.#inbound.close(error);
  }

  #resetPeer(): void {
    if (this.#isForgotten || !this.#isOpen || (this.#pendingFlags & FLAG_SYN) !== 0) return;
    this.#pendingFlags = FLAG_RST;
    this.announce();
  }

  #forgetIfDone(): void {
    if (this.#outbound.isEnded && this.#inbound.isEnded) this.#forget();
  }

  #forget(): void {
    if (this.#isForgotten) return;
    this.#isForgotten = true;
    this.#owner.forget(this);
    this.#releaseIfIdle();
  }

  /** Nothing queues a substream that is forgotten, so this tells its owner once. */
  #releaseIfIdle(): void {
    if (this.#isForgotten && !this.#inControl && !this.#inData) this.#owner.released(this);
  }
}

function resetError(id: number): MicrovmError {
  return new MicrovmError("CHANNEL_CLOSED", `stream ${id} was reset`, { stage: "exec" });
}
