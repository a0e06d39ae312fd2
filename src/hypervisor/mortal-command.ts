// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { MicrovmError } from "../errors.ts";

/** A program and its arguments, as `spawn` takes them. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/**
 * A command that runs `command` in the same process, without privileges to gain, and dies with this process however
 * that ends, SIGKILL included.
 *
 * Linux ties this to the *thread* that forks (prctl(2), PR_SET_PDEATHSIG): a VMM started from a worker thread dies with
 * the worker. The shell in between closes the gap before the kernel is asked: if we are gone by then, the parent is
 * another. It becomes the command by `exec`, so the pid is the command's.
 *
 * macOS has nothing like it; there the guest agent, which powers off when its channel hangs up, is all there is.
 *
 * @throws MicrovmError `MISSING_DEPENDENCY` if setpriv (util-linux) is not installed.
 */
export function mortalCommand(command: Command): Command {
  if (process.platform !== "linux") return command;
  const setpriv = findProgram("setpriv");
  if (!setpriv) {
    throw new MicrovmError("MISSING_DEPENDENCY", "setpriv not found", {
      stage: "spawn",
      hint: "Install util-linux (apk add setpriv on Alpine): without it a VM could outlive the process that owns it.",
    });
  }
  return {
    file: setpriv,
    args: [
      ...["--pdeathsig", "KILL", "--no-new-privs"],
      ...(canDropCapabilities()
        ? ["--bounding-set", "-all", "--inh-caps", "-all", "--ambient-caps", "-all"]
        : []),
      ...["--", "/bin/sh", "-c", 'test "$PPID" = "$0" && exec "$@"', String(process.pid)],
      ...[command.file, ...command.args],
    ],
  };
}

/** What a VMM gets to see of our environment. */
export function vmmEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin" };
}

/** First executable file of that name in PATH and then in `extraDirs`. */
export function findProgram(
  name: string,
  extraDirs: readonly string[] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"],
): string | undefined {
  const path = (process.env.PATH ?? "").split(delimiter).filter((dir) => dir.startsWith("/"));
  return [...path, ...extraDirs].map((dir) => join(dir, name)).find(isExecutable);
}

/** Whether `path` is a plain file that we may execute. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // not there, or not for us
  }
}

/** CAP_SETPCAP, bit 8: root has it, unless in a container that took it away. Source: capabilities(7). */
function canDropCapabilities(): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
    return effective !== undefined && (BigInt(`0x${effective}`) & (1n << 8n)) !== 0n;
  } catch {
    return false; // no /proc: setpriv will keep what there is
  }
}
