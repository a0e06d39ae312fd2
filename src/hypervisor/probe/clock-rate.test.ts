// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type ClockSample, clockRateKHz } from "./clock-rate.ts";

/** One sample a millisecond, each late by what `delay` says. */
function samples(khz: number, count: number, delay: (i: number) => number): ClockSample[] {
  return Array.from({ length: count }, (_, i) => ({ ticks: 5e9 + khz * i, hostMs: 1000 + i + delay(i) }));
}

test("delays of up to 20 ms do not show in the rate", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1_000_000, max: 6_000_000 }),
      fc.array(fc.double({ min: 0, max: 20, noNaN: true }), { minLength: 300, maxLength: 300 }),
      (khz, delays) => {
        // Most samples are late; one in ten is not.
        const rate = clockRateKHz(samples(khz, 300, (i) => (i % 10 === 0 ? 0.01 : (delays[i] ?? 0))));
        assert.ok(rate !== undefined && Math.abs(rate / khz - 1) < 0.0005, `${rate} for ${khz}`);
      },
    ),
  );
});

test("a counter that changes its rate, too few samples and absurd rates tell nothing", () => {
  const bent = samples(2_000_000, 300, (i) => (i > 150 ? (i - 150) * 0.1 : 0));
  assert.equal(clockRateKHz(bent), undefined);
  assert.equal(clockRateKHz(samples(2_000_000, 20, () => 0)), undefined);
  assert.equal(clockRateKHz(samples(50_000, 300, () => 0)), undefined);
  assert.equal(clockRateKHz([]), undefined);
});
