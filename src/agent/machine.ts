// SPDX-License-Identifier: Apache-2.0
import { connect } from "node:net";
import { isErrno, MicrovmError, toMicrovmError } from "../errors.ts";
import { ask, untilAborted } from "./call.ts";
import { exec } from "./channel.ts";
import { CallClient } from "./client.ts";
import { DoneSchema, InspectionSchema, WaitDoneSchema } from "./gen/microvm/v1/channel_pb.ts";
import type { MachineClient, WaitOptions } from "./types.ts";

/**
 * Connects to a running machine through its api.sock.
 *
 * @param socketPath - of the machine's api.sock
 * @param options.signal - ends the wait
 * @throws MicrovmError `VM_NOT_RUNNING` if nobody serves the socket, `PROTOCOL_ERROR`, `CHANNEL_CLOSED`, `ABORTED`,
 * `TIMEOUT`.
 */
export async function connectMachine(
  socketPath: string,
  { signal }: WaitOptions = {},
): Promise<MachineClient> {
  const client = new CallClient(connect(socketPath));
  try {
    await untilAborted(client.peerVersion, "state", signal);
  } catch (error) {
    client.session.close();
    if (error instanceof MicrovmError && isNobodyThere(error.cause)) {
      throw new MicrovmError("VM_NOT_RUNNING", "the machine is not running", {
        stage: "state",
        cause: error,
      });
    }
    throw toMicrovmError(error, "state", signal);
  }
  return machineClient(client);
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

function isNobodyThere(cause: unknown): boolean {
  return isErrno(cause, "ENOENT") || isErrno(cause, "ECONNREFUSED");
}
