// SPDX-License-Identifier: Apache-2.0
import type { BootStage } from "../events.ts";

/** Where the time of one start goes: stages on the clock of the host, those of the guest moved onto it. */
export class Timeline {
  readonly #origin: number;
  readonly #onStage: (stage: BootStage) => void;
  readonly #stages: BootStage[] = [];

  /** @param origin `performance.now()` at the start of everything */
  constructor(origin: number, onStage: (stage: BootStage) => void = () => {}) {
    this.#origin = origin;
    this.#onStage = onStage;
  }

  get stages(): readonly BootStage[] {
    return this.#stages;
  }

  /** Times a step of the host's. */
  async measure<T>(name: string, step: () => Promise<T> | T): Promise<T> {
    const begin = performance.now();
    try {
      return await step();
    } finally {
      this.add(name, begin, performance.now());
    }
  }

  /** Adds a stage that lay between two readings of `performance.now()`. */
  add(name: string, begin: number, end: number): void {
    const stage = { name, beginMs: round(begin - this.#origin), endMs: round(end - this.#origin) };
    this.#stages.push(stage);
    this.#onStage(stage);
  }
}

const round = (value: number): number => Math.round(value * 10) / 10;
