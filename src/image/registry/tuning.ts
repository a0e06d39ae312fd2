// SPDX-License-Identifier: Apache-2.0

/** Patience with a registry. There is no total timeout: a slow download that moves is a good download. */
export interface RegistryTuning {
  readonly connectTimeoutMs: number;
  /** From the request to the end of the response's headers. */
  readonly headersTimeoutMs: number;
  /** A body that delivers less than `minStallBytes` in this much waiting has stalled. */
  readonly stallTimeoutMs: number;
  readonly minStallBytes: number;
  /** Tries of one request, and tries in a row of a blob that make no progress. */
  readonly attempts: number;
  /** Pause before the second try; doubles with every further one. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A `Retry-After` longer than this is an answer, not a pause. */
  readonly maxRetryAfterMs: number;
}

export const REGISTRY_TUNING: RegistryTuning = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  stallTimeoutMs: 30_000,
  minStallBytes: 16 * 1024,
  attempts: 5,
  backoffMs: 250,
  maxBackoffMs: 8_000,
  maxRetryAfterMs: 30_000,
};
