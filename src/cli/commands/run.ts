// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { Command } from "commander";
import { MicrovmError } from "../../errors.ts";
import { showProgress } from "../progress.ts";
import { addRunFlags, runOptionsOf } from "../run-flags.ts";
import { forwardSignals } from "../signals.ts";
import { attachStreams, terminalSize } from "../terminal.ts";

interface Flags extends Record<string, unknown> {
  readonly quiet?: boolean;
  readonly detach?: boolean;
  readonly tty?: boolean;
  readonly interactive?: boolean;
}

export function run(program: Command): void {
  const command = program
    .command("run")
    .description("Run an image as a VM")
    .argument("<image>", "image reference, such as debian:12 or 127.0.0.1:5000/demo")
    .argument("[command...]", "command and arguments, in place of the image's own")
    .passThroughOptions()
    .option("-q, --quiet", "no progress, no warnings");
  addRunFlags(command);
  command.action(runImage);
}

async function runImage(image: string, args: string[], flags: Flags): Promise<void> {
  if (flags.tty && flags.interactive && !flags.detach && !process.stdin.isTTY) {
    throw new MicrovmError("INVALID_OPTION", "-it: the input is not a terminal", {
      stage: "options",
      hint: "Leave -t out when standard input is a pipe or a file.",
    });
  }
  const signals = forwardSignals();
  const options = runOptionsOf(flags, args);
  const { run } = await import("../../microvm.ts");
  const progress = showProgress({ quiet: flags.quiet ?? false });
  let vm: Awaited<ReturnType<typeof run>>;
  try {
    vm = await run(image, {
      ...options,
      ...(flags.tty && { tty: terminalSize() ?? true }),
      ...(!flags.detach && { stdio: "pipe" }),
      onEvent: progress.onEvent,
      signal: signals.cancelled,
    });
  } catch (error) {
    if (signals.received) process.exit(128 + constants.signals[signals.received]);
    throw error;
  } finally {
    progress.end();
  }
  if (flags.detach) {
    process.stdout.write(`${vm.id}\n`);
    return;
  }
  signals.deliverTo((signal) => void vm.kill(signal).catch(() => {})); // it ended in between
  const streams = attachStreams(vm, { tty: flags.tty ?? false });
  process.stdout.on("error", () => void vm.kill().catch(() => {})); // nobody reads any more: as SIGPIPE would
  try {
    const [code] = await Promise.all([vm.wait(), streams.done]);
    process.exitCode = code;
  } finally {
    streams.restore();
  }
}
