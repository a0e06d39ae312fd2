// SPDX-License-Identifier: Apache-2.0
import { fromBinary } from "@bufbuild/protobuf";
import { type ErrorCode, MicrovmError, type Stage, toMicrovmError } from "../errors.ts";
import { encodeFrame } from "./frames.ts";
import { type Done, DoneSchema } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";

/** Every code there is; the type sees to it that none is missing. */
const CODES: Readonly<Record<ErrorCode, true>> = {
  INVALID_OPTION: true,
  ABORTED: true,
  TIMEOUT: true,
  INTERNAL: true,
  MISSING_DEPENDENCY: true,
  UNSUPPORTED_PLATFORM: true,
  RUNTIME_NOT_FOUND: true,
  RUNTIME_CORRUPT: true,
  INSECURE_DIRECTORY: true,
  INVALID_REFERENCE: true,
  IMAGE_NOT_FOUND: true,
  IMAGE_UNAUTHORIZED: true,
  IMAGE_RATE_LIMITED: true,
  IMAGE_IN_USE: true,
  IMAGE_CORRUPT: true,
  IMAGE_UNSUPPORTED: true,
  IMAGE_LIMIT: true,
  REGISTRY_UNREACHABLE: true,
  REGISTRY_ERROR: true,
  BACKEND_UNAVAILABLE: true,
  VMM_FAILED: true,
  VMM_EXITED: true,
  BOOT_FAILED: true,
  BOOT_TIMEOUT: true,
  PROTOCOL_ERROR: true,
  CHANNEL_CLOSED: true,
  COMMAND_NOT_FOUND: true,
  COMMAND_NOT_EXECUTABLE: true,
  EXEC_FAILED: true,
  VM_NOT_FOUND: true,
  VM_NOT_RUNNING: true,
  VM_RUNNING: true,
  NAME_IN_USE: true,
  STATE_CORRUPT: true,
};

/** The frame that answers a call with an error, or with nothing. */
export function doneFrame(error?: unknown): Buffer {
  if (error === undefined) return encodeFrame(DoneSchema, {});
  const { code, message } = toMicrovmError(error, "exec");
  return encodeFrame(DoneSchema, { code, message: message.slice(0, 16 * 1024) });
}

/** The error that a frame says, if it is a `Done` with one. No other reply has its fields. */
export function errorFromDone(frame: Uint8Array, stage: Stage): MicrovmError | undefined {
  let done: Done;
  try {
    done = fromBinary(DoneSchema, frame);
  } catch {
    return undefined; // another message
  }
  if (done.code === "") return undefined;
  const message = printable(done.message, 16 * 1024);
  if (isErrorCode(done.code)) return new MicrovmError(done.code, message, { stage });
  return new MicrovmError("INTERNAL", `${printable(done.code, 64)}: ${message}`, { stage });
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(CODES, text);
}
