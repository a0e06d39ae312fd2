// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { MicrovmError } from "../../errors.ts";
import type { RegistryTuning } from "./tuning.ts";

/** A failure that a later try may not meet. Never leaves this folder: `error` does, when the tries are used up. */
export class TransientFailure extends Error {
  readonly error: MicrovmError;
  /** What the server asked for (`Retry-After`). */
  readonly retryAfterMs: number | undefined;

  constructor(error: MicrovmError, retryAfterMs?: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Called before each pause, with what went wrong. */
export type RetryListener = (reason: string) => void;

/** Counts tries in a row that failed, and waits between them: exponential back-off with full jitter. */
export class Backoff {
  readonly #tuning: RegistryTuning;
  readonly #signal: AbortSignal | undefined;
  readonly #onRetry: RetryListener | undefined;
  #failures = 0;

  constructor(tuning: RegistryTuning, signal?: AbortSignal, onRetry?: RetryListener) {
    this.#tuning = tuning;
    this.#signal = signal;
    this.#onRetry = onRetry;
  }

  /** Waits before the next try, or throws what `failure` stands for if there is to be none. */
  async pause(failure: unknown): Promise<void> {
    if (!(failure instanceof TransientFailure)) throw failure;
    const { attempts, backoffMs, maxBackoffMs, maxRetryAfterMs } = this.#tuning;
    this.#failures += 1;
    const asked = failure.retryAfterMs ?? 0;
    if (this.#failures >= attempts || asked > maxRetryAfterMs) throw failure.error;
    this.#onRetry?.(failure.error.message);
    const ceiling = Math.min(maxBackoffMs, backoffMs * 2 ** (this.#failures - 1));
    await sleep(Math.max(asked, ceiling * (0.5 + Math.random() / 2)), undefined, { signal: this.#signal });
  }

  /** The last try moved things forward: start counting anew. */
  reset(): void {
    this.#failures = 0;
  }
}

/** Runs `attempt` until it succeeds, fails for good or uses up its tries. */
export async function retrying<T>(backoff: Backoff, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (failure) {
      await backoff.pause(failure);
    }
  }
}

/** Milliseconds of a `Retry-After` header: seconds or an HTTP date. Source: RFC 9110 §10.2.3. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
