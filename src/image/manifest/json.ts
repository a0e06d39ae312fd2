// SPDX-License-Identifier: Apache-2.0
import type * as z from "zod";
import { corrupt, printable, quoted } from "../image-errors.ts";

/** Parses a JSON document that arrived from outside; `what` names it in the error. */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    const start = Buffer.from(bytes.subarray(0, 64)).toString("latin1");
    throw corrupt(`${what}: not JSON, it starts with ${printable(start)}`, cause);
  }
}

/** Checks a document against its schema; the first thing wrong with it is what the error says. */
export function check<T extends z.ZodType>(schema: T, json: unknown, what: string): z.output<T> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue?.path.map(String).join(".") || "document";
  throw corrupt(`${what}: ${quoted(path)}: ${issue?.message ?? "invalid"}`);
}
