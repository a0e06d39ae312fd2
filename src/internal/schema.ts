// SPDX-License-Identifier: Apache-2.0
import * as z from "zod";

/** What a timer takes: about 24 days. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** Text that can be an argument or a value of the environment. */
export const text = z.string().refine((value) => !value.includes("\0"), "must not contain NUL");

const side = z.int().min(0).max(65_535);

/** Whether a process gets a terminal, and of which size. */
export const terminal = z.union([z.boolean(), z.strictObject({ rows: side, columns: side })]);

/** The size that a `terminal` option asks for: 24 × 80 if it names none, nothing without a terminal. */
export function terminalSizeOf(
  option: z.output<typeof terminal>,
): { rows: number; columns: number } | undefined {
  return option === true ? { rows: 24, columns: 80 } : option || undefined;
}
