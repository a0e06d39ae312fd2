// SPDX-License-Identifier: Apache-2.0
import { printable, printableJson } from "../internal/printable.ts";

/** Columns under headings, each as wide as its widest cell; control characters of hostile names are shown escaped. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows].map((row) => row.map(printable));
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("   ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** One JSON array, or one line per item for `jq`-less shells: what every listing prints with --json. */
export function printJson(value: unknown): void {
  process.stdout.write(`${printableJson(value, 2)}\n`);
}
