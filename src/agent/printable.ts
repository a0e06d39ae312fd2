// SPDX-License-Identifier: Apache-2.0

/** Text of the guest's, fit for a message to a person: one line, no control characters, of bounded length. */
export function printable(text: string, limit = 1024): string {
  const line = text.slice(0, limit + 1).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ");
  return text.length > limit ? `${line.slice(0, limit)}…` : line;
}
