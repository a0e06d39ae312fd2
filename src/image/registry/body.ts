// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { overLimit } from "../image-errors.ts";
import { release } from "../release.ts";
import { type HttpResponse, transportFailure } from "./http.ts";
import { TransientFailure } from "./retry.ts";
import type { RegistryTuning } from "./tuning.ts";

/**
 * The bytes of a response as they arrive; a chunk is valid until the next is asked for. Ends with a `TransientFailure` if the connection breaks or its sender
 * trickles: time counts only while we wait for it, so a slow consumer never looks like a slow registry.
 */
export async function* readBody(
  response: HttpResponse,
  tuning: RegistryTuning,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const { stallTimeoutMs, minStallBytes } = tuning;
  const chunks = response.body[Symbol.asyncIterator]();
  let waitedMs = 0;
  let received = 0;
  try {
    for (;;) {
      const asked = performance.now();
      const next = await chunks.next();
      if (next.done) return;
      const chunk: Buffer = next.value;
      waitedMs += performance.now() - asked;
      received += chunk.length;
      if (received >= minStallBytes) {
        waitedMs = 0;
        received = 0;
      } else if (waitedMs > stallTimeoutMs) {
        throw stalled(response.url, received, stallTimeoutMs);
      }
      yield chunk;
      release(chunk);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof MicrovmError || error instanceof TransientFailure) throw error;
    throw transportFailure(error, response.url);
  } finally {
    response.body.destroy();
  }
}

/** A whole small body; `what` names it in the error if it is longer than `limit`. */
export async function readDocument(
  response: HttpResponse,
  limit: number,
  what: string,
  tuning: RegistryTuning,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  if (Number(response.header("content-length")) > limit) {
    response.body.destroy();
    throw overLimit(`${what}: longer than the ${limit} bytes allowed`);
  }
  for await (const chunk of readBody(response, tuning, signal)) {
    length += chunk.length;
    if (length > limit) throw overLimit(`${what}: longer than the ${limit} bytes allowed`);
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks, length);
}

function stalled(url: URL, received: number, afterMs: number): TransientFailure {
  const seconds = Math.round(afterMs / 1000);
  return new TransientFailure(
    new MicrovmError("REGISTRY_UNREACHABLE", `${url.host}: stalled: ${received} bytes in ${seconds} s`, {
      stage: "image",
      hint: "The registry or the network is overloaded: try again later.",
    }),
  );
}
