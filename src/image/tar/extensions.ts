// SPDX-License-Identifier: Apache-2.0
import { corrupt } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import type { ByteString } from "./entry.ts";
import { cString } from "./header.ts";
import { type PaxHeader, parsePax } from "./pax.ts";

const PAX = 0x78; // "x"
const PAX_GLOBAL = 0x67; // "g"
const GNU_LONG_NAME = 0x4c; // "L"
const GNU_LONG_LINK = 0x4b; // "K"

/** Whether members of this type describe the member that follows instead of being one. */
export function isExtension(typeflag: number): boolean {
  return (
    typeflag === PAX || typeflag === PAX_GLOBAL || typeflag === GNU_LONG_NAME || typeflag === GNU_LONG_LINK
  );
}

/**
 * What the extension headers in front of a member say about it.
 *
 * Global PAX headers ("g") are passed over: like Go's archive/tar, which wrote and read almost every layer
 * there is, we apply them to nothing. A repeated header replaces the one before it.
 */
export class Extensions {
  pax: PaxHeader | undefined;
  longName: ByteString | undefined;
  longLink: ByteString | undefined;

  add(typeflag: number, body: Buffer, limits: ImageLimits): void {
    if (typeflag === PAX) this.pax = parsePax(body, limits);
    if (typeflag === GNU_LONG_NAME) this.longName = cString(body, 0, body.length);
    if (typeflag === GNU_LONG_LINK) this.longLink = cString(body, 0, body.length);
  }

  /** Throws where the archive ends: nothing is left for these headers to describe. */
  assertEmpty(): void {
    if (this.pax !== undefined || this.longName !== undefined || this.longLink !== undefined) {
      throw corrupt("extension header at the end of the archive");
    }
  }

  clear(): void {
    this.pax = undefined;
    this.longName = undefined;
    this.longLink = undefined;
  }
}
