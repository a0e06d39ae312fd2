// SPDX-License-Identifier: Apache-2.0
import { Duplex } from "node:stream";

/** Small, fast and seeded (xorshift32): the same numbers in every run. Each is in [0, limit). */
export function seededRandom(seed: number): (limit: number) => number {
  let state = seed | 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Two ends of a byte stream that is cut at random and arrives at random moments, in order. */
export function chunkyPair(random: (limit: number) => number): [Duplex, Duplex] {
  const a = new ChunkyEnd(random);
  const b = new ChunkyEnd(random);
  a.peer = b;
  b.peer = a;
  return [a, b];
}

class ChunkyEnd extends Duplex {
  peer: ChunkyEnd | undefined;
  readonly #random: (limit: number) => number;
  #resume: (() => void) | undefined;

  constructor(random: (limit: number) => number) {
    super({ autoDestroy: true });
    this.#random = random;
  }

  override _read(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#pass(Buffer.from(chunk), done); // a copy, as a kernel makes one
  }

  override _final(done: () => void): void {
    this.peer?.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const peer = this.peer;
    setImmediate(() => peer?.destroyed || peer?.push(null));
    done(error);
  }

  #pass(rest: Buffer, done: () => void): void {
    const peer = this.peer;
    if (!peer || peer.destroyed || rest.length === 0) {
      done();
      return;
    }
    const sizes = [1, 11, 12, 13, 100, 5000, 65_536, 1_000_000];
    const size = Math.min(rest.length, 1 + this.#random(sizes[this.#random(sizes.length)] ?? 1));
    const next = () => this.#pass(rest.subarray(size), done);
    if (!peer.push(rest.subarray(0, size))) peer.#resume = next;
    else if (this.#random(4) === 0) setImmediate(next);
    else process.nextTick(next);
  }
}
