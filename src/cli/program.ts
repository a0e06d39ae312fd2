// SPDX-License-Identifier: Apache-2.0
import { Command, CommanderError } from "commander";
import { packageVersion } from "../internal/package.ts";
import { COMMANDS } from "./commands/index.ts";
import { EXIT_FAILURE, reportError } from "./report.ts";

/** The whole command line: each command is a file in commands/ and a line in its index. */
export function buildProgram(): Command {
  const program = new Command("microvm")
    .description("Run OCI images as lightweight virtual machines")
    .version(packageVersion(), "-V, --version")
    .enablePositionalOptions()
    .showHelpAfterError("(--help lists the options)")
    .exitOverride();
  for (const register of COMMANDS) register(program);
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program);
  return program;
}

/** Parses, runs, and ends the process with the right exit code. Nothing thrown ever shows a stack. */
export async function runCli(argv: readonly string[]): Promise<void> {
  // A reader that has gone away (`microvm ps | head -1`) is no error worth a message.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", () => {
      if (stream.listenerCount("error") === 1) process.exit(EXIT_FAILURE); // else the command knows better
    });
  }
  try {
    await buildProgram().parseAsync([...argv]);
  } catch (error) {
    // Commander has printed what it had to say: help, the version, or the usage error.
    process.exit(
      error instanceof CommanderError ? (error.exitCode === 0 ? 0 : EXIT_FAILURE) : reportError(error),
    );
  }
  process.exit();
}
