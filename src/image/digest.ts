// SPDX-License-Identifier: Apache-2.0
import { createHash, type Hash } from "node:crypto";

/** Hex characters of each algorithm's digest. Source: OCI image-spec, descriptor.md, "Registered algorithms". */
const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha512: 128 };

/** A content address, already validated: both parts are safe as path components. */
export interface Digest {
  readonly algorithm: string;
  readonly hex: string;
}

/** The parts of `sha256:<64 lower-case hex>` or `sha512:<128 hex>`; undefined for anything else. */
export function parseDigest(text: string): Digest | undefined {
  const colon = text.indexOf(":");
  const algorithm = text.slice(0, Math.max(colon, 0));
  const hex = text.slice(colon + 1);
  const length = Object.hasOwn(HEX_LENGTH, algorithm) ? HEX_LENGTH[algorithm] : undefined;
  if (hex.length !== length || !/^[0-9a-f]+$/.test(hex)) return undefined;
  return { algorithm, hex };
}

/** Whether `text` is a digest this store can verify. */
export function isDigest(text: string): boolean {
  return parseDigest(text) !== undefined;
}

/** A running hash for the algorithm of `digest`, which must be valid. */
export function hasherOf(digest: string): Hash {
  return createHash(digest.slice(0, digest.indexOf(":")));
}

/** The digest that `hash`, made by `hasherOf(like)`, has come to. */
export function formatDigest(hash: Hash, like: string): string {
  return `${like.slice(0, like.indexOf(":"))}:${hash.digest("hex")}`;
}

/** `sha256:…` of `bytes`, or the digest of another algorithm that `like` (a valid digest) uses. */
export function digestOf(bytes: Uint8Array | string, like = "sha256:"): string {
  return formatDigest(hasherOf(like).update(bytes), like);
}
