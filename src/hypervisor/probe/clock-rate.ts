// SPDX-License-Identifier: Apache-2.0

/** A counter's value, and the host's time when we heard of it: some unknown while later, never earlier. */
export interface ClockSample {
  readonly ticks: number;
  readonly hostMs: number;
}

/** Halves of the measurement that disagree by more than this were disturbed. */
const TOLERANCE = 0.001;
/** What is late is told with the rate, and the rate from what is least late. */
const ROUNDS = 3;

/**
 * The rate of a counter in kHz, or undefined if the samples do not tell.
 *
 * Delays only ever add, so of many samples the one least late is nearly on time: the rate is taken between the least
 * late ones of the beginning, the middle and the end.
 */
export function clockRateKHz(samples: readonly ClockSample[]): number | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || samples.length < 30) return undefined;
  let rate = rateBetween(first, last);
  for (let round = 0; round < ROUNDS; round++) {
    const [begin, middle, end] = leastLate(samples, rate);
    const [early, late] = [rateBetween(begin, middle), rateBetween(middle, end)];
    rate = rateBetween(begin, end);
    if (round === ROUNDS - 1 && !(Math.abs(early - late) <= TOLERANCE * rate)) return undefined;
  }
  const khz = Math.round(rate);
  return khz > 100_000 && khz < 20_000_000 ? khz : undefined;
}

/** The least late sample of each third of them, for a counter of about this rate. */
function leastLate(samples: readonly ClockSample[], rate: number): [ClockSample, ClockSample, ClockSample] {
  const third = Math.floor(samples.length / 3);
  const lateness = (s: ClockSample): number => s.hostMs - s.ticks / rate;
  const best = (from: number): ClockSample =>
    samples.slice(from, from + third).reduce((a, b) => (lateness(b) < lateness(a) ? b : a));
  return [best(0), best(third), best(2 * third)];
}

function rateBetween(from: ClockSample, to: ClockSample): number {
  return (to.ticks - from.ticks) / (to.hostMs - from.hostMs);
}
