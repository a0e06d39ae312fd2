// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { corrupt } from "../image-errors.ts";
import { readBody } from "./body.ts";
import type { HttpResponse } from "./http.ts";
import { Backoff, type RetryListener, TransientFailure } from "./retry.ts";
import { statusError } from "./status.ts";
import type { RegistryTuning } from "./tuning.ts";

/** A connection that delivered this much was worth making: it does not count as a failed try. */
const PROGRESS_BYTES = 256 * 1024;

type Open = (headers: Readonly<Record<string, string>>) => Promise<HttpResponse>;

/**
 * The bytes of a blob, `size` of them: a broken connection is resumed with a range request where it broke, so
 * the reader's hash and decompressor never notice.
 */
export async function* streamBlob(
  open: Open,
  size: number,
  tuning: RegistryTuning,
  signal: AbortSignal,
  onRetry: RetryListener,
): AsyncGenerator<Buffer, void, undefined> {
  const backoff = new Backoff(tuning, signal, onRetry);
  let offset = 0;
  for (;;) {
    const start = offset;
    try {
      for await (const chunk of readFrom(open, offset, size, tuning, signal)) {
        offset += chunk.length;
        yield chunk;
      }
      if (offset === size) return;
      throw cutShort(offset, size);
    } catch (failure) {
      if (offset - start >= PROGRESS_BYTES) backoff.reset();
      await backoff.pause(failure);
    }
  }
}

async function* readFrom(
  open: Open,
  offset: number,
  size: number,
  tuning: RegistryTuning,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const response = await open(offset === 0 ? {} : { range: `bytes=${offset}-` });
  let skip = await bytesBefore(response, offset, size, tuning, signal);
  let position = offset - skip;
  for await (const chunk of readBody(response, tuning, signal)) {
    position += chunk.length;
    if (position > size) throw corrupt(`longer than the ${size} bytes the manifest says`);
    if (skip >= chunk.length) skip -= chunk.length;
    else {
      yield skip === 0 ? chunk : chunk.subarray(skip);
      skip = 0;
    }
  }
}

/** How many bytes of the response come before `offset`; checks that it is the answer to what was asked. */
async function bytesBefore(
  response: HttpResponse,
  offset: number,
  size: number,
  tuning: RegistryTuning,
  signal: AbortSignal,
): Promise<number> {
  const { status } = response;
  if (status !== 200 && status !== 206) {
    const error = await statusError(response, "blob", tuning, signal);
    throw status === 416 ? corrupt(`shorter than the ${size} bytes the manifest says`, error) : error;
  }
  const before = status === 206 ? offset - rangeStart(response) : offset;
  const length = response.header("content-length");
  const encoding = response.header("content-encoding");
  const expected = size - offset + before;
  const refuse = (reason: string): MicrovmError => {
    response.body.destroy();
    return corrupt(reason);
  };
  if (before !== 0 && before !== offset) throw refuse("the registry answers with a range nobody asked for");
  if (encoding && encoding !== "identity")
    throw refuse(`the registry sends it with content-encoding ${encoding.slice(0, 32)}`);
  if (length !== undefined && Number(length) !== expected) {
    throw refuse(
      `size mismatch: the manifest says ${size} bytes, the registry has ${Number(length) + offset - before}`,
    );
  }
  return before;
}

function rangeStart(response: HttpResponse): number {
  const match = /^bytes (\d{1,15})-\d+\/(?:\d+|\*)$/.exec(response.header("content-range") ?? "");
  return match ? Number(match[1]) : Number.NaN;
}

function cutShort(offset: number, size: number): TransientFailure {
  return new TransientFailure(
    new MicrovmError("REGISTRY_ERROR", `ended after ${offset} of ${size} bytes`, {
      stage: "image",
      hint: "The registry, or something on the way to it, cuts downloads short: try again later.",
    }),
  );
}
