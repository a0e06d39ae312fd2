// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { MicrovmError } from "../errors.ts";
import { decodeMessage, encodeFrame, FrameDecoder } from "./frames.ts";
import { type Hello, HelloSchema } from "./gen/microvm/v1/channel_pb.ts";
import { printable } from "./printable.ts";

const PROTOCOL = 1;
const MAX_HELLO = 1024;

/** Writes our Hello, which does not wait for the peer's. */
export function writeHello(duplex: Duplex, version: string): void {
  duplex.write(encodeFrame(HelloSchema, { protocol: PROTOCOL, version }));
}

/**
 * Reads the peer's Hello from the first chunks of a byte stream; `onHello` hears of it.
 *
 * @returns a function that takes chunks until it gives back what follows the Hello; it throws `PROTOCOL_ERROR`
 */
export function helloReader(onHello: (hello: Hello) => void): (chunk: Buffer) => Buffer | undefined {
  const decoder = new FrameDecoder(MAX_HELLO);
  return (chunk) => {
    decoder.push(chunk);
    const frame = decoder.next();
    if (!frame) return undefined;
    const hello = decodeMessage(HelloSchema, frame);
    if (hello.protocol !== PROTOCOL) {
      const sender = hello.version ? ` (version ${printable(hello.version, 64)})` : "";
      throw new MicrovmError(
        "PROTOCOL_ERROR",
        `the peer${sender} speaks protocol ${hello.protocol} of the channel, this side speaks ${PROTOCOL}`,
        { stage: "boot", hint: "Use an agent and a host of the same release." },
      );
    }
    onHello(hello);
    return decoder.rest();
  };
}
