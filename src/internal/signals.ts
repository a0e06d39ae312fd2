// SPDX-License-Identifier: Apache-2.0

/** Linux signal numbers (x86, arm): what the guest's kernel counts in, whatever the host is. Source: signal(7). */
const LINUX = [
  "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
  "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
  "WINCH", "IO", "PWR", "SYS",
]; // biome-ignore format: a table

const RTMIN = 34;
const RTMAX = 64;

/** The Linux number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; undefined if there is no such signal. */
export function signalNumber(text: string | number): number | undefined {
  const name = String(text).toUpperCase().replace(/^SIG/, "");
  if (/^\d+$/.test(name)) {
    const number = Number(name);
    return number >= 1 && number <= RTMAX ? number : undefined;
  }
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime) {
    const offset = Number(`${realTime[2] ?? "+"}${realTime[3] ?? 0}`);
    const number = (realTime[1] === "MIN" ? RTMIN : RTMAX) + offset;
    return number >= RTMIN && number <= RTMAX ? number : undefined;
  }
  const index = LINUX.indexOf(name);
  return index < 0 ? undefined : index + 1;
}

/** `SIGTERM` of 15. */
export function signalName(number: number): string {
  const name = LINUX[number - 1];
  if (name) return `SIG${name}`;
  return number >= RTMIN && number <= RTMAX ? `SIGRTMIN+${number - RTMIN}` : `signal ${number}`;
}
