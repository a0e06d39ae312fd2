// SPDX-License-Identifier: Apache-2.0

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
const INSISTING = 3;

/**
 * Passes signals of this process on, as `docker run` does: before the VM is up they cancel its start, from then on
 * the workload gets them. The third Ctrl-C kills.
 */
export function forwardSignals(): {
  readonly cancelled: AbortSignal;
  /** Number of the signal that cancelled the start. */
  readonly received: NodeJS.Signals | undefined;
  deliverTo(kill: (signal: NodeJS.Signals) => void): void;
} {
  const cancel = new AbortController();
  let deliver: ((signal: NodeJS.Signals) => void) | undefined;
  let received: NodeJS.Signals | undefined;
  let interrupts = 0;
  for (const name of FORWARDED) {
    process.on(name, () => {
      if (name === "SIGINT") interrupts += 1;
      if (deliver) return deliver(interrupts >= INSISTING ? "SIGKILL" : name);
      received ??= name;
      cancel.abort(new DOMException(`cancelled by ${name}`, "AbortError"));
    });
  }
  return {
    cancelled: cancel.signal,
    get received() {
      return received;
    },
    deliverTo(kill) {
      deliver = kill;
    },
  };
}
