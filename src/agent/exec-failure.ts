// SPDX-License-Identifier: Apache-2.0
import { type ErrorCode, MicrovmError, toMicrovmError } from "../errors.ts";
import { type ExecFailed, ExecFailed_Reason as Reason } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";

/** Why a process was not started, as the error that `Exec.exit` rejects with. */
export function execError({ reason, message }: ExecFailed): MicrovmError {
  const text = printable(message) || "the process could not be started";
  switch (reason) {
    case Reason.NOT_FOUND:
      return error("COMMAND_NOT_FOUND", text, "Check the command and the PATH of the image.");
    case Reason.NOT_EXECUTABLE:
      return error("COMMAND_NOT_EXECUTABLE", text, "Check its mode, its interpreter and its architecture.");
    case Reason.BAD_USER:
      return error(
        "EXEC_FAILED",
        text,
        "Check the user and the groups against the image's /etc/passwd and /etc/group.",
      );
    case Reason.BAD_CWD:
      return error("EXEC_FAILED", text, "Check that the working directory is there.");
    case Reason.LIMIT:
      return error("EXEC_FAILED", text, "Give the VM more memory, or start fewer or smaller processes.");
    default:
      return error("EXEC_FAILED", text);
  }
}

/** The opposite, for a process that passes such an error on. */
export function execFailure(thrown: unknown): { reason: Reason; message: string } {
  const { code, message } = toMicrovmError(thrown, "exec");
  const reasons: Partial<Record<ErrorCode, Reason>> = {
    COMMAND_NOT_FOUND: Reason.NOT_FOUND,
    COMMAND_NOT_EXECUTABLE: Reason.NOT_EXECUTABLE,
  };
  return { reason: reasons[code] ?? Reason.UNSPECIFIED, message: message.slice(0, 16 * 1024) };
}

function error(code: ErrorCode, message: string, hint?: string): MicrovmError {
  return new MicrovmError(code, message, { stage: "exec", hint });
}
