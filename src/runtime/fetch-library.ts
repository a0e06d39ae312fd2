// SPDX-License-Identifier: Apache-2.0
import { basename } from "node:path";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { MicrovmError, messageOf, toMicrovmError } from "../errors.ts";
import { npmOptions } from "./npm-config.ts";
import type { PinnedLibrary } from "./pins.ts";
import { readMembers } from "./tarball.ts";
import { digestOf } from "./verified-file.ts";

/** No package we pin unpacks to nearly as much. */
const MAX_UNPACKED_BYTES = 512 << 20;
const MAX_LICENCE_BYTES = 1 << 20;

/** A library and the files kept beside it, in memory. */
export interface FetchedLibrary {
  readonly library: Uint8Array;
  /** By file name. */
  readonly beside: ReadonlyMap<string, Uint8Array>;
}

/**
 * Downloads a pinned library with npm's own fetcher, so through the user's registry, proxy and credentials, and checks
 * both the package (sha512) and the library (sha256).
 *
 * @throws MicrovmError `RUNTIME_NOT_FOUND` if it cannot be had, `RUNTIME_CORRUPT` if it is not what was pinned.
 */
export async function fetchLibrary(
  pin: PinnedLibrary,
  options: { signal?: AbortSignal | undefined; onBytes?: ((receivedBytes: number) => void) | undefined },
): Promise<FetchedLibrary> {
  const spec = `${pin.package}@${pin.version}`;
  const { default: pacote } = await import("pacote");
  const read = async (tarball: AsyncIterable<Uint8Array>): Promise<Map<string, Uint8Array>> => {
    const compressed = Readable.from(counted(tarball, options.onBytes), { objectMode: false });
    const tar = createGunzip();
    compressed.on("error", (error) => tar.destroy(error));
    return await readMembers(
      compressed.pipe(tar),
      [
        { member: pin.member, maxBytes: pin.sizeBytes },
        ...pin.licences.map((member) => ({ member, maxBytes: MAX_LICENCE_BYTES })),
      ],
      MAX_UNPACKED_BYTES,
    );
  };
  let members: Map<string, Uint8Array>;
  try {
    options.signal?.throwIfAborted();
    members = await pacote.tarball.stream(spec, read, {
      ...npmOptions(),
      integrity: pin.integrity,
      signal: options.signal,
    });
  } catch (error) {
    throw fetchFailure(error, spec, options.signal);
  }
  const library = members.get(pin.member) ?? new Uint8Array();
  if (digestOf([library]) !== pin.sha256) {
    throw new MicrovmError("RUNTIME_CORRUPT", `fetch ${spec}: ${pin.member} is not the pinned file`, {
      stage: "runtime",
    });
  }
  const beside = new Map(
    pin.licences.map((member) => [basename(member), members.get(member) ?? new Uint8Array()]),
  );
  beside.set("NOTICE", Buffer.from(pin.notice));
  return { library, beside };
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  onBytes: ((receivedBytes: number) => void) | undefined,
): AsyncGenerator<Uint8Array> {
  let received = 0;
  for await (const chunk of source) {
    received += chunk.length;
    onBytes?.(received);
    yield chunk;
  }
}

function fetchFailure(error: unknown, spec: string, signal: AbortSignal | undefined): MicrovmError {
  if (signal?.aborted || error instanceof MicrovmError) {
    return toMicrovmError(error, "runtime", signal).within(`fetch ${spec}`);
  }
  const corrupt = error instanceof Error && "code" in error && error.code === "EINTEGRITY";
  return new MicrovmError(
    corrupt ? "RUNTIME_CORRUPT" : "RUNTIME_NOT_FOUND",
    `fetch ${spec}: ${messageOf(error)}`,
    {
      stage: "runtime",
      cause: error,
      hint: corrupt
        ? "The registry delivered other bytes than were published; check the mirror in your npm settings."
        : "Check the network and your npm registry settings, or install libkrunfw 5 and set MICROVM_LIBKRUN_DIR.",
    },
  );
}
