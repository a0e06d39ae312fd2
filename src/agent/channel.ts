// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { MicrovmError, toMicrovmError } from "../errors.ts";
import { ask, atStage, makeCall, untilAborted } from "./call.ts";
import { CallClient } from "./client.ts";
import { decodeMessage, protocolError } from "./frames.ts";
import { BootEventSchema, type Ready, ShutdownDoneSchema } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";
import type { BootConfig, BootOptions, Channel, Exec, ExecSpec, WaitOptions } from "./types.ts";

/** A guest must not be able to make whoever keeps the stages keep ever more. */
const MAX_STAGES = 256;

/**
 * Opens the channel to the agent in a guest over a byte stream that is the channel's from now on. Nobody need be at
 * the other end yet: calls can be made at once, so that a boot costs no round trip before it; they are answered when
 * the agent is there.
 *
 * @param duplex - the host's end of the agent's port
 */
export function openAgent(duplex: Duplex): Channel {
  const client = new CallClient(duplex);
  const { session } = client;
  return {
    connected: client.peerVersion,
    closed: session.closed,
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

/**
 * As `openAgent`, and waits until the agent has said hello.
 *
 * @param duplex - the host's end of the agent's port
 * @param options.signal - ends the wait
 * @throws MicrovmError `PROTOCOL_ERROR` (another version, or no agent), `CHANNEL_CLOSED`, `ABORTED`, `TIMEOUT`; the
 * stream is destroyed.
 */
export async function connectAgent(duplex: Duplex, { signal }: WaitOptions = {}): Promise<Channel> {
  const channel = openAgent(duplex);
  try {
    await untilAborted(channel.connected, "boot", signal);
    return channel;
  } catch (error) {
    channel.close();
    throw atStage(toMicrovmError(error, "boot", signal), "boot");
  }
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
