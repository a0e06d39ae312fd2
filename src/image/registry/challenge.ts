// SPDX-License-Identifier: Apache-2.0

/** One way to authenticate that a server offers. Source: RFC 9110 §11.6.1. */
export interface Challenge {
  /** In lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case; the first of duplicates counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

const MAX_HEADER_CHARS = 8192;

/**
 * Parses `WWW-Authenticate`, whether its challenges come in one header or several.
 *
 * Servers get the grammar wrong in many ways, so this never fails: what cannot be read is skipped.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const values = header === undefined ? [] : typeof header === "string" ? [header] : header;
  return values.flatMap((value) => parseOne(value.slice(0, MAX_HEADER_CHARS)));
}

/** `name = "value"` or `name=value`; a name without `=` starts the next challenge. Sticky: no backtracking over the rest. */
const PARAMETER = /([!#$%&'*+.^_`|~\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/y;
const SCHEME = /([!#$%&'*+.^_`|~\w-]+)(?=[\s,]|$)/y;
const SEPARATOR = /[\s,]*/y;

function parseOne(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (let position = 0; position < header.length; ) {
    position = matchAt(SEPARATOR, header, position)?.end ?? position;
    const parameter = matchAt(PARAMETER, header, position);
    const scheme = parameter ? undefined : matchAt(SCHEME, header, position);
    const [, name = "", inQuotes, bare] = parameter?.groups ?? scheme?.groups ?? [];
    if (scheme) challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
    const parameters = challenges.at(-1)?.parameters;
    if (parameter && parameters && !parameters.has(name.toLowerCase())) {
      parameters.set(name.toLowerCase(), inQuotes?.replace(/\\(.)/g, "$1") ?? bare ?? "");
    }
    position = parameter?.end ?? scheme?.end ?? position + 1;
  }
  return challenges;
}

function matchAt(pattern: RegExp, text: string, position: number) {
  pattern.lastIndex = position;
  const groups = pattern.exec(text);
  return groups ? { groups, end: pattern.lastIndex } : undefined;
}
