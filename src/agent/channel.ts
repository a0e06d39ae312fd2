// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { MicrovmError, toMicrovmError } from "../errors.ts";
import { ask, atStage, makeCall } from "./call.ts";
import { CallClient } from "./client.ts";
import { decodeMessage, protocolError } from "./frames.ts";
import { BootEventSchema, type Ready, ShutdownDoneSchema } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";
import type { BootConfig, BootOptions, Channel, Exec, ExecSpec, WaitOptions } from "./types.ts";

/** A guest must not be able to make whoever keeps the stages keep ever more. */
const MAX_STAGES = 256;

/**
 * Connects to the agent in a guest over a byte stream that is the channel's from now on: both sides say Hello, then
 * speak yamux. The stream need not be connected to anything yet; this waits.
 *
 * @param duplex - the host's end of the agent's port
 * @param options.signal - ends the wait; the stream is then destroyed
 * @throws MicrovmError `PROTOCOL_ERROR` (another version, or no agent), `CHANNEL_CLOSED`, `ABORTED`, `TIMEOUT`; the
 * stream is destroyed.
 */
export async function connectAgent(duplex: Duplex, { signal }: WaitOptions = {}): Promise<Channel> {
  const client = new CallClient(duplex);
  try {
    return channel(client, await client.connected(signal));
  } catch (error) {
    throw atStage(toMicrovmError(error, "boot", signal), "boot");
  }
}

function channel(client: CallClient, version: string): Channel {
  const { session } = client;
  return {
    agentVersion: printable(version, 64),
    closed: client.closed,
    boot: (config, options = {}) => boot(client, config, options),
    exec: (spec, options) => exec(client, spec, options),
    async shutdown(graceMs, { signal } = {}) {
      const call = { case: "shutdown", value: { graceMillis: graceMs } } as const;
      await ask(session, call, ShutdownDoneSchema, { stage: "stop", signal });
    },
    close: () => session.close(),
    async [Symbol.asyncDispose]() {
      session.close();
    },
  };
}

function boot(client: CallClient, config: BootConfig, { signal, onStage }: BootOptions): Promise<Ready> {
  let stages = 0;
  const onFrame = (frame: Uint8Array): Ready | undefined => {
    const { event } = decodeMessage(BootEventSchema, frame);
    switch (event.case) {
      case "stage":
        if (++stages > MAX_STAGES) throw protocolError("too many stages of the boot");
        onStage?.({ ...event.value, name: printable(event.value.name, 64) });
        return undefined;
      case "ready":
        return event.value;
      case "failed":
        throw bootError(event.value);
      default:
        throw protocolError("unexpected event of the boot");
    }
  };
  return makeCall(client.session, { case: "boot", value: config }, onFrame, { stage: "boot", signal });
}

function bootError({ stage, message }: { readonly stage: string; readonly message: string }): MicrovmError {
  const where = printable(stage, 64);
  return new MicrovmError("BOOT_FAILED", `${where}: ${printable(message)}`, {
    stage: "boot",
    evidence: { guestStage: where },
  });
}

/** Asks for a process; shared with the client of a machine's api.sock. */
export function exec(client: CallClient, spec: ExecSpec, options?: WaitOptions): Exec {
  const request = {
    call: (id: bigint) => ({ case: "exec", value: { ...spec, id } }) as const,
    stdin: spec.stdin ?? false,
    stdout: spec.stdout ?? false,
    stderr: (spec.stderr ?? false) && spec.tty === undefined,
  };
  return client.exec(request, options);
}
