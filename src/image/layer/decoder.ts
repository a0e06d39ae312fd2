// SPDX-License-Identifier: Apache-2.0
import type { Transform } from "node:stream";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { isErrno, messageOf } from "../../errors.ts";
import { corrupt, overLimit } from "../image-errors.ts";
import { release } from "../release.ts";
import type { Compression } from "./compression.ts";
import { ZstdFrames } from "./zstd-frames.ts";

/** Takes decompressed bytes; the decoder waits for it, and then takes the memory back. */
export type DecodedSink = (chunk: Buffer) => Promise<void> | void;

/** A decompressor with back-pressure. Every method rejects with what went wrong first, there or in the sink. */
export interface Decoder {
  /** Resolves when `chunk` has been read and may be overwritten. */
  write(chunk: Buffer): Promise<void>;
  /** Resolves when the sink has had everything. */
  end(): Promise<void>;
  destroy(): void;
}

/** What one call into the decompressor fills at most: fewer, longer jobs for the thread pool. */
const CHUNK_BYTES = 512 * 1024;
/** Decompressed bytes that may wait for the sink, so that the decompressor works while the sink does. */
const READ_AHEAD_BYTES = CHUNK_BYTES;

/** `zstd --ultra -22` needs 2^27 bytes; more than that is a bomb for memory. */
const ZSTD_WINDOW_LOG_MAX = 27;

export function createDecoder(compression: Compression, sink: DecodedSink): Decoder {
  if (compression === "none")
    return { write: async (chunk) => sink(chunk), end: async () => {}, destroy() {} };
  const options = { chunkSize: CHUNK_BYTES, readableHighWaterMark: READ_AHEAD_BYTES };
  if (compression === "gzip") return new StreamDecoder("gzip", createGunzip(options), sink);
  const params = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX };
  return new ZstdDecoder(createZstdDecompress({ ...options, params }), sink);
}

/** `bytesWritten` is what the decompressor has consumed, not what was written to it. */
type ZlibStream = Transform & { readonly bytesWritten: number };

/** A zlib stream, driven so that no byte is left over unnoticed. */
class StreamDecoder implements Decoder {
  readonly #name: string;
  readonly #stream: ZlibStream;
  readonly #pumping: Promise<void>;
  /** Ends the wait for a write whose callback may never come: the stream can end before its input does. */
  #wake = (): void => {};
  #written = 0;
  #failure: { readonly error: unknown } | undefined;
  #ended = false;

  constructor(name: string, stream: ZlibStream, sink: DecodedSink) {
    this.#name = name;
    this.#stream = stream;
    this.#pumping = this.#pump(sink)
      .catch((error: unknown) => {
        this.#failure = { error };
      })
      .then(() => this.#wake());
  }

  async write(chunk: Buffer): Promise<void> {
    this.#check();
    this.#written += chunk.length;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#stream.write(chunk, () => resolve());
    });
    this.#check();
    if (this.#ended) throw this.#garbage();
  }

  async end(): Promise<void> {
    this.#stream.end();
    await this.#pumping;
    this.#check();
    // zlib stops reading at zeros after the last member without a word.
    if (this.#stream.bytesWritten !== this.#written) throw this.#garbage();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  async #pump(sink: DecodedSink): Promise<void> {
    try {
      for await (const chunk of this.#stream) {
        await sink(chunk);
        release(chunk);
      }
      this.#ended = true;
    } catch (error) {
      throw decodeFailure(error, this.#name);
    }
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  #garbage() {
    return corrupt(`${this.#name}: garbage after the end of the compressed stream`);
  }
}

class ZstdDecoder implements Decoder {
  readonly #frames = new ZstdFrames();
  readonly #decoder: Decoder;

  constructor(stream: ZlibStream, sink: DecodedSink) {
    this.#decoder = new StreamDecoder("zstd", stream, sink);
  }

  async write(chunk: Buffer): Promise<void> {
    for (const piece of this.#frames.split(chunk)) await this.#decoder.write(piece);
  }

  async end(): Promise<void> {
    await this.#decoder.end();
    if (!this.#frames.complete) throw corrupt("zstd: unexpected end of the compressed stream");
  }

  destroy(): void {
    this.#decoder.destroy();
  }
}

/** zlib's errors in our words; everything else, such as what the sink throws, as it is. */
function decodeFailure(error: unknown, name: string): unknown {
  if (isErrno(error, "Z_BUF_ERROR"))
    return corrupt(`${name}: unexpected end of the compressed stream`, error);
  const { code } = error as { code?: unknown };
  if (code === "ZSTD_error_frameParameter_windowTooLarge") {
    return overLimit(`zstd: needs a window of more than ${2 ** ZSTD_WINDOW_LOG_MAX} bytes`);
  }
  if (typeof code === "string" && /^(?:Z_|ZSTD_)/.test(code))
    return corrupt(`${name}: ${messageOf(error)}`, error);
  return error;
}
