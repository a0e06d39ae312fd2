// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";
import { MicrovmError } from "../../errors.ts";

/** No message we ask for is nearly as long; a VMM that its guest has taken over may send anything. */
const MAX_LINE_BYTES = 256 << 10;

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/**
 * QEMU's control channel, as much of it as a VM's life needs.
 *
 * Source: QEMU, docs/interop/qmp-spec.
 */
export class QmpClient {
  readonly #socket: Duplex;
  readonly #pending: PromiseWithResolvers<unknown>[] = [];
  #failure: MicrovmError | undefined;
  /** Resolves, never rejects, when nothing more will be heard. */
  readonly closed: Promise<void>;

  constructor(socket: Duplex, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    const lines = new LineSplitter(MAX_LINE_BYTES);
    socket.on("data", (chunk: Uint8Array) => {
      try {
        for (const line of lines.push(chunk)) this.#receive(line, onEvent);
      } catch (error) {
        this.#fail(protocolError("malformed message", error));
        socket.destroy();
      }
    });
    socket.on("error", (error) => this.#fail(protocolError("connection lost", error)));
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      this.#fail(protocolError("connection closed"));
      closed.resolve();
    });
  }

  /**
   * Runs a command and returns what QEMU answered. Answers come in the order of the commands.
   *
   * @throws MicrovmError `PROTOCOL_ERROR` if QEMU refuses it or is gone.
   */
  async execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (this.#failure) throw this.#failure;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.push(answer);
    this.#socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }) })}\n`);
    return await answer.promise;
  }

  #receive(line: string, onEvent: (event: QmpEvent) => void): void {
    if (line.trim() === "") return;
    const message: unknown = JSON.parse(line);
    if (!isRecord(message)) throw new TypeError("not an object");
    if (typeof message.event === "string") {
      onEvent({ name: message.event, data: isRecord(message.data) ? message.data : {} });
    } else if ("return" in message) {
      this.#pending.shift()?.resolve(message.return);
    } else if ("error" in message) {
      const error = isRecord(message.error) ? message.error : {};
      this.#pending.shift()?.reject(protocolError(String(error.desc ?? "command refused")));
    }
    // The greeting is all that is left, and it says nothing we need.
  }

  #fail(error: MicrovmError): void {
    this.#failure ??= error;
    for (const answer of this.#pending.splice(0)) answer.reject(this.#failure);
  }
}

/** Cuts a byte stream into lines of bounded length. */
export class LineSplitter {
  readonly #maxBytes: number;
  #parts: Uint8Array[] = [];
  #size = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that `chunk` completes, without their ends. Throws RangeError when one gets too long. */
  *push(chunk: Uint8Array): Generator<string> {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#add(chunk.subarray(start, end));
      const line = Buffer.concat(this.#parts).toString("utf8");
      this.#parts = [];
      this.#size = 0;
      start = end + 1;
      yield line;
    }
    if (start < chunk.length) this.#add(chunk.subarray(start));
  }

  #add(part: Uint8Array): void {
    this.#size += part.length;
    if (this.#size > this.#maxBytes) throw new RangeError("line too long");
    this.#parts.push(part);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function protocolError(what: string, cause?: unknown): MicrovmError {
  return new MicrovmError("PROTOCOL_ERROR", `qmp: ${what}`, { stage: "spawn", cause });
}
