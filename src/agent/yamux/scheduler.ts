// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { Batch } from "./batch.ts";
import { FLAG_RST, TYPE_GO_AWAY, TYPE_PING, TYPE_WINDOW_UPDATE } from "./frame.ts";

/** Payload of one stream in one turn: a bulk stream delays the others by no more. */
const TURN_BYTES = 64 * 1024;
/** What is handed to the socket at a time, and so the most that can stand before an urgent frame. */
const BATCH_BYTES = 256 * 1024;
/** Answers owed to the peer at a time. One that asks faster than it reads answers gets none. */
const MAX_REPLIES = 256;

/** A stream as the scheduler sees it. */
export interface Sender {
  /** Adds pending window updates and flags to the batch. */
  takeControl(batch: Batch): void;
  /** Adds up to `limit` bytes of data, or the end of it, to the batch; true if there is more to send at once. */
  takeData(batch: Batch, limit: number): boolean;
  /** The batch was written. Called once for each `takeData`. */
  written(): void;
}

/**
 * Decides what goes to the socket next: answers and window updates first, then data, one bounded piece of each
 * stream in turn. Asks for no more than the socket takes: one batch is under way, everything else stays where it is.
 */
export class Scheduler {
  readonly #batch: Batch;
  readonly #replies: number[] = []; // type, id, value in turn
  #urgent: Sender[] = [];
  #ring: Sender[] = [];
  #inFlight: Sender[] = [];
  #isWriting = false;
  #isScheduled = false;
  #isStopped = false;

  constructor(duplex: Duplex) {
    this.#batch = new Batch(duplex);
  }

  /** Senders and answers that wait for the socket. */
  get queued(): number {
    return this.#urgent.length + this.#ring.length + this.#replies.length / 4;
  }

  /** Owes the peer the answer to a ping. False if too many are owed. */
  pong(value: number, flags: number): boolean {
    return this.#reply(TYPE_PING, 0, value, flags);
  }

  /** Refuses a stream. False if too many answers are owed. */
  refuse(streamId: number): boolean {
    return this.#reply(TYPE_WINDOW_UPDATE, streamId, 0, FLAG_RST);
  }

  /** Queues a sender's window updates and flags; the sender sees to it that it is queued once. */
  control(sender: Sender): void {
    this.#urgent.push(sender);
    this.#schedule();
  }

  /** Queues a sender's data; the sender sees to it that it is queued once. */
  data(sender: Sender): void {
    this.#ring.push(sender);
    this.#schedule();
  }

  /** Sends nothing more but, if the socket is free, a last word. */
  stop(reason: number): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#urgent = [];
    this.#ring = [];
    this.#inFlight = [];
    if (this.#isWriting) return;
    this.#batch.header(TYPE_GO_AWAY, 0, 0, reason);
    this.#batch.flush(() => {});
  }

  #reply(type: number, streamId: number, value: number, flags: number): boolean {
    if (this.#replies.length >= 4 * MAX_REPLIES) return false;
    this.#replies.push(type, flags, streamId, value);
    this.#schedule();
    return true;
  }

  /** At the end of the tick, so that what is said in one tick goes out in one write. */
  #schedule(): void {
    if (this.#isScheduled || this.#isWriting || this.#isStopped) return;
    this.#isScheduled = true;
    process.nextTick(this.#pump);
  }

  readonly #pump = (): void => {
    this.#isScheduled = false;
    if (this.#isWriting || this.#isStopped) return;
    const batch = this.#batch;
    this.#fillControl(batch);
    if (this.#urgent.length === 0) this.#fillData(batch);
    if (batch.bytes === 0) return;
    this.#isWriting = true;
    batch.flush(this.#written);
  };

  readonly #written = (): void => {
    this.#isWriting = false;
    const done = this.#inFlight;
    this.#inFlight = [];
    for (const sender of done) sender.written();
    if (this.#urgent.length > 0 || this.#ring.length > 0 || this.#replies.length > 0) this.#pump();
  };

  #fillControl(batch: Batch): void {
    let taken = 0;
    while (taken < this.#replies.length && batch.hasRoom) {
      const [type = 0, flags = 0, streamId = 0, value = 0] = this.#replies.slice(taken, taken + 4);
      batch.header(type, flags, streamId, value);
      taken += 4;
    }
    this.#replies.splice(0, taken);
    taken = 0;
    while (batch.hasRoom) {
      const sender = this.#urgent[taken];
      if (!sender) break;
      taken++;
      sender.takeControl(batch);
    }
    this.#urgent.splice(0, taken);
  }

  #fillData(batch: Batch): void {
    const ring = this.#ring;
    let turn = 0;
    while (batch.hasRoom && batch.bytes < BATCH_BYTES) {
      const sender = ring[turn];
      if (!sender) break;
      turn++;
      this.#inFlight.push(sender);
      if (sender.takeData(batch, TURN_BYTES)) ring.push(sender);
    }
    ring.splice(0, turn);
  }
}
