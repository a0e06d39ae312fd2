// SPDX-License-Identifier: Apache-2.0

/** Characters that drive a terminal or hide text: controls, bidirectional marks and the like. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

const escaped = (character: string): string =>
  `\\u${character.codePointAt(0)?.toString(16).padStart(4, "0")}`;

/** One line of untrusted text that cannot drive the terminal it is shown on. */
export function printable(text: string): string {
  return text.replace(INVISIBLE, escaped);
}

/** JSON text, the line breaks that lay it out kept, whose strings cannot drive the terminal either. */
export function printableJson(value: unknown, indent?: number): string {
  // What is left invisible outside of strings is layout; inside JSON has escaped its line breaks already.
  return JSON.stringify(value, null, indent).replace(INVISIBLE, (character) =>
    character === "\n" ? character : escaped(character),
  );
}
