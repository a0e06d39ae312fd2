// SPDX-License-Identifier: Apache-2.0
import type { MicrovmError } from "../../errors.ts";
import { INITIAL_WINDOW, ProtocolViolation } from "./frame.ts";
import { Inbox } from "./inbox.ts";

/** Who reads a substream, and hears of its end. */
export interface Consumer {
  /** Bytes in order. False: no more until `resume`. */
  onData(chunk: Buffer): boolean;
  /** The peer's last byte was delivered. */
  onEnd(): void;
  /** Reset, or the session is gone; delivered after the bytes that came before. */
  onFailure(error: MicrovmError): void;
}

export interface InboundOwner {
  readonly id: number;
  /** Asks for receive window beyond the initial one; the answer may be 0. */
  grantWindow(): number;
  /** There is credit to announce: `takeCredit` soon. */
  announce(): void;
}

/** The receiving half of a substream. Holds what was not read, and lets the peer send only what can be held. */
export class Inbound {
  readonly #owner: InboundOwner;
  readonly #inbox = new Inbox();
  #window = INITIAL_WINDOW; // what the peer may still send
  #windowLimit = INITIAL_WINDOW;
  #extraWindow = 0;
  #consumed = 0; // and not announced
  #consumer: Consumer | undefined;
  #wantsData = false;
  #isDelivering = false;
  #isEnded = false;
  #endDelivered = false;
  #isClosed = false;
  #failure: MicrovmError | undefined;

  constructor(owner: InboundOwner) {
    this.#owner = owner;
  }

  /** Beyond the initial window. */
  get extraWindow(): number {
    return this.#extraWindow;
  }

  /** Whether the peer sends no more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  // ── the consumer's side ─────────────────────────────────────────────────────────────────────────────

  /** Names the consumer, which gets what arrived so far once it asks with `resume`. */
  consume(consumer: Consumer): void {
    this.#consumer = consumer;
    this.#wantsData = false;
    if (this.#failure && this.#inbox.length === 0) consumer.onFailure(this.#failure);
  }

  resume(): void {
    this.#wantsData = true;
    if (!this.#isDelivering) this.#deliver();
  }

  /** Puts back what a consumer took too much of; before the next one is named. */
  unshift(rest: Buffer): void {
    const later: Buffer[] = [];
    for (let chunk = this.#inbox.take(); chunk; chunk = this.#inbox.take()) later.push(chunk);
    for (const chunk of [rest, ...later]) this.#inbox.add(chunk);
    this.#consumed -= rest.length;
  }

  /** Nobody reads any more: what is here and what comes is dropped. */
  discard(): void {
    this.#consumer = DISCARD;
    this.#inbox.clear();
    this.resume();
  }

  // ── the peer's side ─────────────────────────────────────────────────────────────────────────────────

  /** The header of a data frame came; its payload follows. */
  expect(length: number): void {
    if (length > this.#window)
      throw new ProtocolViolation(`stream ${this.#owner.id}: data beyond the window`);
    if (this.#isEnded) throw new ProtocolViolation(`stream ${this.#owner.id}: data after the end`);
    this.#window -= length;
  }

  receive(piece: Buffer): void {
    if (this.#isClosed) return;
    if (!this.#wantsData || this.#isDelivering || this.#inbox.length > 0) {
      this.#inbox.add(piece);
      return;
    }
    this.#isDelivering = true;
    this.#hand(piece);
    this.#isDelivering = false;
    // What the consumer did meanwhile: put bytes back, or see the end of it.
    if (this.#inbox.length > 0 || this.#isClosed) this.#deliver();
  }

  /** The peer's half-close. */
  end(): void {
    if (this.#isEnded) throw new ProtocolViolation(`stream ${this.#owner.id}: ended twice`);
    this.#isEnded = true;
    if (!this.#isDelivering) this.#deliver();
  }

  /** Takes nothing from the peer any more; with an error, it ends in that, else in an ordinary end. */
  close(error?: MicrovmError): void {
    this.#isClosed = true;
    if (this.#isEnded && !error) return;
    this.#isEnded = true;
    this.#failure = error;
    if (this.#isDelivering) return;
    if (error && this.#inbox.length === 0) this.#consumer?.onFailure(error);
    else if (!error) this.#deliver();
  }

  /** Window to give back to the peer with an update; 0 if it is not worth one. */
  takeCredit(): number {
    const credit = this.#consumed;
    if (this.#isEnded || credit < this.#windowLimit / 2) return 0;
    this.#window += credit;
    this.#consumed = 0;
    return credit;
  }

  #deliver(): void {
    this.#isDelivering = true;
    while (this.#wantsData && this.#consumer) {
      const chunk = this.#inbox.take();
      if (!chunk) break;
      this.#hand(chunk);
    }
    this.#isDelivering = false;
    if (this.#inbox.length > 0 || this.#endDelivered) return;
    if (this.#failure) {
      this.#endDelivered = true;
      this.#consumer?.onFailure(this.#failure);
    } else if (this.#isEnded && this.#wantsData) {
      this.#endDelivered = true;
      this.#consumer?.onEnd();
    }
  }

  #hand(chunk: Buffer): void {
    this.#wantsData = false; // unless a `resume` comes meanwhile
    if (this.#consumer?.onData(chunk)) this.#wantsData = true;
    this.#consumed += chunk.length;
    if (this.#consumed < this.#windowLimit / 2 || this.#isEnded) return;
    if (this.#extraWindow === 0) {
      // It is read: worth more than the initial window, if the session has some to give.
      this.#extraWindow = this.#owner.grantWindow();
      this.#windowLimit += this.#extraWindow;
      this.#consumed += this.#extraWindow;
    }
    this.#owner.announce();
  }
}

const DISCARD: Consumer = { onData: () => true, onEnd: () => {}, onFailure: () => {} };
