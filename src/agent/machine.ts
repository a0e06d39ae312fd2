// SPDX-License-Identifier: Apache-2.0
import { connect } from "node:net";
import { isErrno, MicrovmError, toMicrovmError } from "../errors.ts";
import { ask, untilAborted } from "./call.ts";
import { exec } from "./channel.ts";
import { CallClient } from "./client.ts";
import { DoneSchema, InspectionSchema, WaitDoneSchema } from "./gen/microvm/v1/channel_pb.ts";
import type { MachineClient, WaitOptions } from "./types.ts";

/** A machine says Hello before anything else; one that takes longer is stopped, or as good as that. */
const HELLO_LIMIT_MS = 2000;

/**
 * Connects to a running machine through its api.sock.
 *
 * @param socketPath - of the machine's api.sock
 * @param options.signal - ends the wait
 * @throws MicrovmError `VM_NOT_RUNNING` if nobody serves the socket, or no longer; `TIMEOUT` if it is served but nobody
 * answers within 2 s, or the signal says so; `PROTOCOL_ERROR`, `CHANNEL_CLOSED`, `ABORTED`.
 */
export async function connectMachine(
  socketPath: string,
  { signal }: WaitOptions = {},
): Promise<MachineClient> {
  const client = new CallClient(connect(socketPath));
  const limit = AbortSignal.timeout(HELLO_LIMIT_MS);
  try {
    await untilAborted(client.peerVersion, "state", signal ? AbortSignal.any([signal, limit]) : limit);
  } catch (error) {
    client.session.close();
    if (signal?.aborted) throw toMicrovmError(signal.reason, "state", signal);
    throw noMachine(toMicrovmError(error, "state"), socketPath);
  }
  return machineClient(client);
}

/** Why there was no Hello. */
function noMachine(error: MicrovmError, socketPath: string): MicrovmError {
  // A queue of connections that nobody accepts is as silent as one connection.
  if (error.code === "TIMEOUT" || isErrno(error.cause, "EAGAIN")) {
    return new MicrovmError("TIMEOUT", `${socketPath} does not answer`, {
      stage: "state",
      hint: "The process that owns the VM is stopped or stuck: continue it (kill -CONT), or end it.",
      cause: error,
    });
  }
  if (error.code === "CHANNEL_CLOSED" && isNobodyThere(error.cause)) {
    return new MicrovmError("VM_NOT_RUNNING", "the machine is not running", { stage: "state", cause: error });
  }
  return error;
}

function machineClient(client: CallClient): MachineClient {
  const { session } = client;
  return {
    closed: session.closed,
    exec: (spec, options) => exec(client, spec, options),
    attach({ stdin = false, ...options } = {}) {
      const call = (id: bigint) => ({ case: "attach", value: { id, stdin } }) as const;
      return client.exec({ call, stdin, stdout: true, stderr: true }, options);
    },
    async wait({ signal } = {}) {
      const { code, error } = await ask(session, { case: "wait", value: {} }, WaitDoneSchema, {
        stage: "workload",
        signal,
      });
      return error === "" ? { code } : { code, error };
    },
    async stop(timeoutMs, { signal } = {}) {
      const call = { case: "stop", value: { timeoutMillis: timeoutMs } } as const;
      await ask(session, call, DoneSchema, { stage: "stop", signal });
    },
    async kill(number, { signal } = {}) {
      await ask(session, { case: "kill", value: { signal: number } }, DoneSchema, { stage: "stop", signal });
    },
    async inspect({ signal } = {}) {
      const { json } = await ask(session, { case: "inspect", value: {} }, InspectionSchema, {
        stage: "state",
        signal,
      });
      return json;
    },
    close: () => session.close(),
    async [Symbol.asyncDispose]() {
      session.close();
    },
  };
}

/** What ends a connection when nobody listens, or when who did was just ending. */
function isNobodyThere(cause: unknown): boolean {
  if (cause === undefined) return true; // hung up
  return ["ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE"].some((code) => isErrno(cause, code));
}
