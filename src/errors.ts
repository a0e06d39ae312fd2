// SPDX-License-Identifier: Apache-2.0

/** Where in the life of a VM an error arose. */
export type Stage =
  | "options"
  | "preflight"
  | "runtime"
  | "image"
  | "hooks"
  | "config"
  | "network"
  | "spawn"
  | "boot"
  | "exec"
  | "workload"
  | "stop"
  | "state";

/** Stable identifiers of everything that can go wrong. A code never changes its meaning. */
export type ErrorCode =
  // options
  | "INVALID_OPTION"
  // any stage
  | "ABORTED"
  | "TIMEOUT"
  | "INTERNAL"
  // preflight, runtime
  | "MISSING_DEPENDENCY"
  | "UNSUPPORTED_PLATFORM"
  | "RUNTIME_NOT_FOUND"
  | "RUNTIME_CORRUPT"
  | "INSECURE_DIRECTORY"
  // image
  | "INVALID_REFERENCE"
  | "IMAGE_NOT_FOUND"
  | "IMAGE_UNAUTHORIZED"
  | "IMAGE_RATE_LIMITED"
  | "IMAGE_IN_USE"
  | "IMAGE_CORRUPT"
  | "IMAGE_UNSUPPORTED"
  | "IMAGE_LIMIT"
  | "REGISTRY_UNREACHABLE"
  | "REGISTRY_ERROR"
  // hypervisor, boot
  | "BACKEND_UNAVAILABLE"
  | "VMM_FAILED"
  | "VMM_EXITED"
  | "BOOT_FAILED"
  | "BOOT_TIMEOUT"
  | "PROTOCOL_ERROR"
  | "CHANNEL_CLOSED"
  // exec and workload
  | "COMMAND_NOT_FOUND"
  | "COMMAND_NOT_EXECUTABLE"
  | "EXEC_FAILED"
  // state
  | "VM_NOT_FOUND"
  | "VM_NOT_RUNNING"
  | "VM_RUNNING"
  | "NAME_IN_USE"
  | "STATE_CORRUPT";

export interface MicrovmErrorDetails {
  readonly stage: Stage;
  /** What the user can do about it, as one sentence. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
  /** The evidence: console tail, VMM stderr, HTTP status and the like. Printable, bounded. */
  readonly evidence?: Readonly<Record<string, string | number>> | undefined;
}

/**
 * The one error type of the public API.
 *
 * `message` reads as a chain (`pull debian:12: layer sha256:ab…: digest mismatch`), `code` is stable,
 * `stage` says which step of the pipeline failed and `hint` what to do about it.
 */
export class MicrovmError extends Error {
  override readonly name = "MicrovmError";
  readonly code: ErrorCode;
  readonly stage: Stage;
  readonly hint: string | undefined;
  readonly evidence: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, message: string, details: MicrovmErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.stage = details.stage;
    this.hint = details.hint;
    this.evidence = details.evidence ?? {};
  }

  /** The same error with `prefix: ` put before its message; code, stage, hint and evidence are kept. */
  within(prefix: string): MicrovmError {
    return new MicrovmError(this.code, `${prefix}: ${this.message}`, {
      stage: this.stage,
      hint: this.hint,
      evidence: this.evidence,
      cause: this.cause ?? this,
    });
  }
}

/** The text of anything thrown, without a stack. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  return String(error);
}

/** Whether `error` is a system error with this `code` (`ENOENT`, …). */
export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Turns what an aborted signal throws into a `MicrovmError`, leaves `MicrovmError`s alone and wraps the rest. */
export function toMicrovmError(error: unknown, stage: Stage, signal?: AbortSignal): MicrovmError {
  if (error instanceof MicrovmError) return error;
  if (signal?.aborted) {
    if (signal.reason instanceof MicrovmError) return signal.reason;
    const timedOut = signal.reason instanceof DOMException && signal.reason.name === "TimeoutError";
    return new MicrovmError(timedOut ? "TIMEOUT" : "ABORTED", timedOut ? "timed out" : "aborted", {
      stage,
      cause: error,
    });
  }
  return new MicrovmError("INTERNAL", messageOf(error), { stage, cause: error });
}
