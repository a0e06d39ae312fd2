// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";

/** Identity of a process that survives pid reuse: the pid and the kernel's start time. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of proc_pid_stat(5); "" where there is no /proc. */
  readonly startTime: string;
}

/** Identity of a running process, or undefined if there is none with that pid (zombies count as gone). */
export function identify(pid: number): ProcessIdentity | undefined {
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  if (process.platform !== "linux") return isSignallable(pid) ? { pid, startTime: "" } : undefined;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command name is in parentheses and may itself contain any of these characters.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    return { pid, startTime: fields[19] ?? "" };
  } catch {
    return undefined; // no such process
  }
}

/** Whether the very process that was identified still runs. */
export function isRunning(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTime === identity.startTime;
}

/** Signals the identified process; false if it is gone or its pid now belongs to another. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isRunning(identity)) return false;
  try {
    return process.kill(identity.pid, signal);
  } catch {
    return false; // it ended in between
  }
}

function isSignallable(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false; // ESRCH, or not ours
  }
}
