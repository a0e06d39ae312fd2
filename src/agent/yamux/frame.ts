// SPDX-License-Identifier: Apache-2.0
//
// The 12-byte header of a yamux frame (hashicorp/yamux spec.md):
//
//   0  u8   version, 0
//   1  u8   type
//   2  u16  flags
//   4  u32  stream id; 0 is the session
//   8  u32  length: of the payload (data), a delta (window update), an opaque value (ping), a reason (go away)
//
// Everything here is on the hot path: no allocation.

export const HEADER_SIZE = 12;

export const TYPE_DATA = 0;
export const TYPE_WINDOW_UPDATE = 1;
export const TYPE_PING = 2;
export const TYPE_GO_AWAY = 3;

export const FLAG_SYN = 1;
export const FLAG_ACK = 2;
export const FLAG_FIN = 4;
export const FLAG_RST = 8;

export const GO_AWAY_NORMAL = 0;
export const GO_AWAY_PROTOCOL_ERROR = 1;
export const GO_AWAY_INTERNAL_ERROR = 2;

/** What each side may send on a new stream before any window update. */
export const INITIAL_WINDOW = 256 * 1024;

/** Writes one header into `target` at `offset`. */
export function writeHeader(
  target: Uint8Array,
  offset: number,
  type: number,
  flags: number,
  streamId: number,
  length: number,
): void {
  target[offset] = 0;
  target[offset + 1] = type;
  target[offset + 2] = flags >>> 8;
  target[offset + 3] = flags;
  writeUint32(target, offset + 4, streamId);
  writeUint32(target, offset + 8, length);
}

/** Whoever takes what a `FrameParser` finds. Throws a `ProtocolViolation` to stop it. */
export interface FrameHandler {
  /** No more is wanted. */
  readonly isClosed: boolean;
  /** A header. After one of a data frame come `length` bytes, in any number of `payload` calls. */
  frame(type: number, flags: number, streamId: number, length: number): void;
  payload(piece: Buffer): void;
}

/** The peer broke the protocol: the session ends with PROTOCOL_ERROR. Never leaves the session. */
export class ProtocolViolation extends Error {}

/** Cuts a byte stream, in chunks of any size, into frames. */
export class FrameParser {
  readonly #handler: FrameHandler;
  readonly #partial = new Uint8Array(HEADER_SIZE);
  #partialLength = 0;
  #payloadLeft = 0;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /** Whether the stream so far ends between two frames. */
  get isBetweenFrames(): boolean {
    return this.#partialLength === 0 && this.#payloadLeft === 0;
  }

  push(chunk: Buffer): void {
    const handler = this.#handler;
    const end = chunk.length;
    let offset = 0;
    while (offset < end && !handler.isClosed) {
      if (this.#payloadLeft > 0) {
        const take = Math.min(this.#payloadLeft, end - offset);
        this.#payloadLeft -= take;
        handler.payload(chunk.subarray(offset, offset + take));
        offset += take;
      } else if (this.#partialLength === 0 && end - offset >= HEADER_SIZE) {
        this.#header(chunk, offset);
        offset += HEADER_SIZE;
      } else {
        while (this.#partialLength < HEADER_SIZE && offset < end) {
          this.#partial[this.#partialLength++] = chunk[offset++] ?? 0;
        }
        if (this.#partialLength < HEADER_SIZE) return;
        this.#partialLength = 0;
        this.#header(this.#partial, 0);
      }
    }
  }

  #header(source: Uint8Array, offset: number): void {
    const version = source[offset] ?? 0;
    const type = source[offset + 1] ?? 0;
    const flags = ((source[offset + 2] ?? 0) << 8) | (source[offset + 3] ?? 0);
    if (version !== 0) throw new ProtocolViolation(`frame of version ${version}`);
    if (type > TYPE_GO_AWAY) throw new ProtocolViolation(`frame of type ${type}`);
    if (flags > 0xf) throw new ProtocolViolation(`frame with flags 0x${flags.toString(16)}`);
    const length = readUint32(source, offset + 8);
    if (type === TYPE_DATA) this.#payloadLeft = length;
    this.#handler.frame(type, flags, readUint32(source, offset + 4), length);
  }
}

function writeUint32(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}

function readUint32(source: Uint8Array, offset: number): number {
  return (
    (((source[offset] ?? 0) << 24) |
      ((source[offset + 1] ?? 0) << 16) |
      ((source[offset + 2] ?? 0) << 8) |
      (source[offset + 3] ?? 0)) >>>
    0
  );
}
