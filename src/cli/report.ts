// SPDX-License-Identifier: Apache-2.0
import { MicrovmError, messageOf } from "../errors.ts";
import { printable } from "../internal/printable.ts";

/** Our own failure, as Docker's: apart from what a workload is likely to say. */
export const EXIT_FAILURE = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;
const EVIDENCE_LINES = 20;

/** Prints an error for people and returns the exit code that goes with it. */
export function reportError(error: unknown): number {
  if (!(error instanceof MicrovmError)) {
    process.stderr.write(`microvm: ${printable(messageOf(error))}\n`);
    return EXIT_FAILURE;
  }
  process.stderr.write(`microvm: ${printable(error.message)}\n`);
  for (const name of ["console", "stderr", "log"]) {
    const text = error.evidence[name];
    if (typeof text !== "string" || text.trim() === "") continue;
    const lines = text.trim().split("\n").slice(-EVIDENCE_LINES);
    process.stderr.write(`\n${name}:\n${lines.map((line) => `  ${printable(line)}\n`).join("")}`);
  }
  if (error.hint) process.stderr.write(`hint: ${printable(error.hint)}\n`);
  return exitCodeOf(error);
}

/** The exit code that stands for an error, as shells and Docker say it. */
export function exitCodeOf(error: MicrovmError): number {
  if (error.code === "COMMAND_NOT_FOUND") return EXIT_NOT_FOUND;
  if (error.code === "COMMAND_NOT_EXECUTABLE") return EXIT_NOT_EXECUTABLE;
  return EXIT_FAILURE;
}
