// SPDX-License-Identifier: Apache-2.0
import { setImmediate } from "node:timers/promises";

const CHECK_EVERY = 512;
const SLICE_MS = 8;

/**
 * Keeps a long loop from holding up the event loop, on which the packets of running VMs also wait.
 *
 * `if (pauser.due()) await pauser.pause();` in each round costs next to nothing until a slice of time is used up.
 */
export class Pauser {
  readonly #signal: AbortSignal | undefined;
  #rounds = 0;
  #sliceStart = performance.now();

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  due(): boolean {
    this.#rounds += 1;
    return this.#rounds % CHECK_EVERY === 0 && performance.now() - this.#sliceStart > SLICE_MS;
  }

  /** Lets others run; throws the signal's reason when it is aborted. */
  async pause(): Promise<void> {
    this.#signal?.throwIfAborted();
    await setImmediate();
    this.#sliceStart = performance.now();
  }
}
