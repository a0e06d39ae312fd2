// SPDX-License-Identifier: Apache-2.0
import type { Readable } from "node:stream";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MicrovmError, messageOf } from "../errors.ts";

const LENGTH_SIZE = 4;

/** The longest frame of the protocol, in bytes without its length. */
export const MAX_FRAME = 4 * 1024 * 1024;
/** The longest event that one side tells another: hellos, stdio headers, stages of a boot, ends of processes. */
export const MAX_EVENT = 64 * 1024;

/**
 * One message as a frame: its length as 4 bytes, big-endian, and its bytes.
 *
 * @throws MicrovmError `INVALID_OPTION` if the message cannot be encoded or is longer than 4 MiB.
 */
export function encodeFrame<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): Buffer {
  let message: Uint8Array;
  try {
    message = toBinary(schema, create(schema, init));
  } catch (error) {
    throw new MicrovmError("INVALID_OPTION", `${schema.name}: ${messageOf(error)}`, {
      stage: "options",
      cause: error,
    });
  }
  if (message.length > MAX_FRAME) {
    throw new MicrovmError(
      "INVALID_OPTION",
      `${schema.name}: ${message.length} bytes, ${MAX_FRAME} at most`,
      {
        stage: "options",
        hint: "Shorten the arguments or the environment.",
      },
    );
  }
  const frame = Buffer.allocUnsafe(LENGTH_SIZE + message.length);
  frame.writeUInt32BE(message.length, 0);
  frame.set(message, LENGTH_SIZE);
  return frame;
}

/** @throws MicrovmError `PROTOCOL_ERROR` if the bytes are not such a message. */
export function decodeMessage<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw protocolError(`not a ${schema.name}: ${messageOf(error)}`, error);
  }
}

export function protocolError(message: string, cause?: unknown): MicrovmError {
  return new MicrovmError("PROTOCOL_ERROR", message, { stage: "exec", cause });
}

/** Cuts a byte stream, in chunks of any size, into frames. Holds what has arrived of one frame, and no more. */
export class FrameDecoder {
  readonly #limit: number;
  #input: Buffer = Buffer.alloc(0);
  #partial: Buffer = Buffer.alloc(0); // its first `#partialLength` bytes are the start of a frame
  #partialLength = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether part of a frame has come. */
  get isInside(): boolean {
    return this.#partialLength > 0 || this.#input.length > 0;
  }

  /** Adds a chunk; every frame of the ones before must have been taken. */
  push(chunk: Buffer): void {
    this.#input = chunk;
  }

  /** The next whole frame, without its length. @throws MicrovmError `PROTOCOL_ERROR` if it is too long. */
  next(): Uint8Array | undefined {
    if (!this.#fill(LENGTH_SIZE)) return undefined;
    const length = this.#partial.readUInt32BE(0);
    if (length > this.#limit) throw protocolError(`frame of ${length} bytes, ${this.#limit} at most`);
    const end = LENGTH_SIZE + length;
    if (!this.#fill(end)) return undefined;
    const frame = this.#partial.subarray(LENGTH_SIZE, end);
    this.#partial = Buffer.alloc(0);
    this.#partialLength = 0;
    return frame;
  }

  /** Gives back what follows the frames that were taken: from here on the bytes are raw. */
  rest(): Buffer {
    const rest = this.#input;
    this.#input = Buffer.alloc(0);
    return rest;
  }

  /** Moves input to the partial frame until that has `size` bytes. Its memory grows with what comes, not as announced. */
  #fill(size: number): boolean {
    const taken = Math.min(size - this.#partialLength, this.#input.length);
    if (taken > 0) {
      const needed = this.#partialLength + taken;
      if (needed > this.#partial.length) {
        const grown = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(size, 2 * needed), 64));
        this.#partial.copy(grown, 0, 0, this.#partialLength);
        this.#partial = grown;
      }
      this.#input.copy(this.#partial, this.#partialLength, 0, taken);
      this.#partialLength = needed;
      this.#input = this.#input.subarray(taken);
    }
    return this.#partialLength >= size;
  }
}

/**
 * The frames of a stream to its end. Stopping early leaves the stream as it is, for its owner to end.
 *
 * @throws MicrovmError `PROTOCOL_ERROR`; whatever the stream fails with.
 */
export async function* readFrames(stream: Readable, limit: number): AsyncGenerator<Uint8Array> {
  const decoder = new FrameDecoder(limit);
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    decoder.push(chunk);
    for (let frame = decoder.next(); frame; frame = decoder.next()) yield frame;
  }
  if (decoder.isInside) throw protocolError("the call ended inside a frame");
}
