// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";

const BLOCK = 512;

/** A member to take, and the most bytes it may have. */
export interface Wanted {
  readonly member: string;
  readonly maxBytes: number;
}

/**
 * Reads named plain files out of a tar stream into memory. Members are matched by their exact names and nothing is
 * written anywhere, so what the others are called or link to cannot matter.
 *
 * @param maxTotalBytes - gives up on a stream longer than this.
 * @throws MicrovmError `RUNTIME_CORRUPT`
 */
export async function readMembers(
  tar: AsyncIterable<Uint8Array>,
  wanted: readonly Wanted[],
  maxTotalBytes: number,
): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  const header = Buffer.alloc(BLOCK);
  let headerBytes = 0;
  let total = 0;
  /** Of the current member, padding included. */
  let left = 0;
  let target: Buffer | undefined;
  let filled = 0;

  for await (const chunk of tar) {
    total += chunk.length;
    if (total > maxTotalBytes) throw corrupt("unpacks to more than it should");
    for (let at = 0; at < chunk.length; ) {
      if (left > 0) {
        const take = Math.min(left, chunk.length - at);
        if (target) {
          const useful = Math.min(take, target.length - filled);
          target.set(chunk.subarray(at, at + useful), filled);
          filled += useful;
        }
        left -= take;
        at += take;
        continue;
      }
      const take = Math.min(BLOCK - headerBytes, chunk.length - at);
      header.set(chunk.subarray(at, at + take), headerBytes);
      headerBytes += take;
      at += take;
      if (headerBytes < BLOCK) break;
      headerBytes = 0;
      const member = parseHeader(header);
      left = Math.ceil(member.size / BLOCK) * BLOCK;
      target = undefined;
      filled = 0;
      const want = member.plain ? wanted.find((w) => w.member === member.name) : undefined;
      if (!want) continue;
      if (member.size > want.maxBytes) throw corrupt(`${member.name} is larger than it should be`);
      target = Buffer.alloc(member.size);
      found.set(member.name, target);
    }
  }
  if (left > 0) throw corrupt("ends in the middle of a file");
  for (const { member } of wanted) if (!found.has(member)) throw corrupt(`has no ${member}`);
  return found;
}

function parseHeader(header: Buffer): { name: string; size: number; plain: boolean } {
  const text = (from: number, length: number): string => {
    const field = header.subarray(from, from + length);
    const end = field.indexOf(0);
    return field.toString("latin1", 0, end < 0 ? length : end);
  };
  const size = Number.parseInt(text(124, 12).trim() || "0", 8);
  if (!Number.isSafeInteger(size) || size < 0) throw corrupt("bad size in a tar header");
  const prefix = text(257, 5) === "ustar" ? text(345, 155) : "";
  const name = text(0, 100);
  const type = header[156];
  return { name: prefix ? `${prefix}/${name}` : name, size, plain: type === 0x30 || type === 0 };
}

function corrupt(what: string): MicrovmError {
  return new MicrovmError("RUNTIME_CORRUPT", `tarball ${what}`, { stage: "runtime" });
}
