// SPDX-License-Identifier: Apache-2.0

/** A counter's value, and the host's time when we heard of it: some unknown while later, never earlier. */
export interface ClockSample {
  readonly ticks: number;
  readonly hostMs: number;
}

/** Halves of the measurement that disagree by more than this were disturbed. */
const TOLERANCE = 0.001;

/**
 * The rate of a counter in kHz, or undefined if the samples do not tell.
 *
 * Delays only ever add, so of many samples the one least late is nearly on time: the rate is taken between the least
 * late ones of the beginning, the middle and the end.
 */
export function clockRateKHz(samples: readonly ClockSample[]): number | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || samples.length < 30) return undefined;
  const rough = (last.ticks - first.ticks) / (last.hostMs - first.hostMs);
  const lateness = (s: ClockSample): number => s.hostMs - s.ticks / rough;
  const third = Math.floor(samples.length / 3);
  const [a, b, c] = [0, third, 2 * third].map((from) =>
    samples.slice(from, from + third).reduce((best, s) => (lateness(s) < lateness(best) ? s : best)),
  );
  if (!a || !b || !c) return undefined;
  const rate = (from: ClockSample, to: ClockSample): number =>
    (to.ticks - from.ticks) / (to.hostMs - from.hostMs);
  const [early, late] = [rate(a, b), rate(b, c)];
  if (!(Math.abs(early - late) <= TOLERANCE * late)) return undefined;
  const khz = Math.round(rate(a, c));
  return khz > 100_000 && khz < 20_000_000 ? khz : undefined;
}
