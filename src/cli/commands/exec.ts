// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { MicrovmError } from "../../errors.ts";
import { collect, envOf } from "../run-flags.ts";
import { attachStreams, terminalSize } from "../terminal.ts";

interface Flags {
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly env?: string[];
  readonly workdir?: string;
  readonly user?: string;
}

export function exec(program: Command): void {
  program
    .command("exec")
    .description("Run a command in a running VM")
    .argument("<vm>", "name or id")
    .argument("<command...>", "command and arguments")
    .passThroughOptions()
    .option("-i, --interactive", "keep standard input open")
    .option("-t, --tty", "give the command a terminal")
    .option("-e, --env <name[=value]>", "environment variable; without a value, this shell's", collect)
    .option("-w, --workdir <dir>", "working directory")
    .option("-u, --user <user[:group]>", "name or uid, and group")
    .action(execInVm);
}

async function execInVm(name: string, [file = "", ...args]: string[], flags: Flags): Promise<void> {
  if (flags.tty && flags.interactive && !process.stdin.isTTY) {
    throw new MicrovmError("INVALID_OPTION", "-it: the input is not a terminal", {
      stage: "options",
      hint: "Leave -t out when standard input is a pipe or a file.",
    });
  }
  const { getVm } = await import("../../microvm.ts");
  await using vm = await getVm(name);
  const child = vm.exec(file, args, {
    env: envOf(flags.env ?? []),
    ...(flags.workdir && { cwd: flags.workdir }),
    ...(flags.user && { user: flags.user }),
    ...(flags.tty && { tty: terminalSize() ?? true }),
    stdin: flags.interactive ?? false,
    buffer: false,
    reject: false,
  });
  let interrupts = 0;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
    process.on(signal, () => {
      if (signal === "SIGINT") interrupts += 1;
      if (interrupts >= 3) process.exit(130); // a VM that no longer answers must not keep the terminal
      child.kill(signal);
    });
  }
  const streams = attachStreams(child, { tty: flags.tty ?? false });
  try {
    const [{ exitCode }] = await Promise.all([child, streams.done]);
    process.exitCode = exitCode;
  } finally {
    streams.restore();
  }
}
