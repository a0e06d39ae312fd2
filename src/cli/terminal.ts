// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";

/** A process whose streams this terminal, or pipe, is to carry. */
export interface Attachable {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  resize(size: { rows: number; columns: number }): void;
}

/** Size of the terminal this process has; undefined if it has none. */
export function terminalSize(): { rows: number; columns: number } | undefined {
  const { rows, columns } = process.stdout.isTTY ? process.stdout : process.stderr;
  return rows && columns ? { rows, columns } : undefined;
}

/**
 * Connects this process's standard streams to those of a process in a VM: raw mode and size changes with a
 * terminal, back-pressure without.
 *
 * @returns settles when all output has been written; call `restore` in any case
 */
export function attachStreams(
  attached: Attachable,
  options: { readonly tty: boolean },
): { done: Promise<void>; restore(): void } {
  const { stdin, stdout, stderr } = process;
  const restoreMode = options.tty && attached.stdin !== undefined && stdin.isTTY ? rawMode() : () => {};
  const resized = () => {
    const size = terminalSize();
    if (size) attached.resize(size);
  };
  if (options.tty) {
    resized(); // it may have changed since the start
    stdout.on("resize", resized);
  }
  const input = attached.stdin;
  if (input) {
    input.on("error", () => {}); // it need not read all of its input
    stdin.pipe(input);
  }
  return {
    done: Promise.all([copyOut(attached.stdout, stdout), copyOut(attached.stderr, stderr)]).then(() => {}),
    restore() {
      restoreMode();
      stdout.off("resize", resized);
      if (input) stdin.unpipe(input);
      stdin.pause();
    },
  };
}

/**
 * Every key to the guest, every byte from it as it is. By stty, because Node's own raw mode still turns the guest's
 * line ends into two carriage returns.
 */
function rawMode(): () => void {
  const stty = (...args: string[]) =>
    execFileSync("stty", args, { stdio: ["inherit", "pipe", "inherit"], encoding: "utf8" }).trim();
  const before = stty("-g");
  stty("raw", "-echo");
  const restore = () => {
    process.off("exit", restore);
    stty(before);
  };
  process.on("exit", restore); // whatever ends us
  return restore;
}

async function copyOut(source: Readable | undefined, target: NodeJS.WriteStream): Promise<void> {
  if (!source) return;
  source.pipe(target, { end: false });
  target.once("error", () => source.resume()); // nobody reads any more: to the end, for its own sake
  await finished(source, { writable: false }).catch(() => {}); // how the process ended says why
  // What was written last may still be on its way into a pipe.
  await new Promise<void>((resolve) => target.write("", () => resolve()));
}
