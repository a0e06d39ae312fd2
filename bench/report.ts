// SPDX-License-Identifier: Apache-2.0
import { formatTable } from "../src/cli/table.ts";

/** One measured figure, and what it is measured against in the same run. */
export interface Figure {
  /** `pull.wall` */
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the ratio is to: a floor or a peer. */
  readonly against?: string;
  /** `value` divided by that of `against`. */
  readonly ratio?: number;
  /** As a person reads it: `≤ 1.15 ×`. */
  readonly target?: string;
  /** Whether the target is met; absent where there is none. */
  readonly ok?: boolean;
}

/** Where a benchmark's figures go. */
export interface Report {
  /** What is being done, for the person who waits. */
  step(text: string): void;
  figure(figure: Figure): void;
}

/** A table for people, or with `json` one line of JSON per figure; steps go to stderr either way. */
export function createReport(json: boolean): Report & { end(): void } {
  const figures: Figure[] = [];
  return {
    step: (text) => void process.stderr.write(`· ${text}\n`),
    figure(figure) {
      figures.push(figure);
      if (json) process.stdout.write(`${JSON.stringify(figure)}\n`);
    },
    end() {
      if (!json) process.stdout.write(formatFigures(figures));
      if (figures.some(({ ok }) => ok === false)) process.exitCode = 1;
    },
  };
}

function formatFigures(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, value, unit, against, ratio, target, ok }) => [
    name,
    `${format(value)} ${unit}`,
    ratio === undefined ? "" : `${format(ratio)} × ${against ?? ""}`.trim(),
    target ?? "",
    ok === undefined ? "" : ok ? "ok" : "MISSED",
  ]);
  return formatTable(["FIGURE", "VALUE", "RATIO", "TARGET", ""], rows);
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
