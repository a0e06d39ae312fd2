// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FlattenLayer } from "../flatten.ts";

/** Writes tars to a folder the way the image store keeps them: plain, padded to whole sectors. */
export function storeLayers(directory: string, tars: readonly Buffer[]): FlattenLayer[] {
  return tars.map((tar, index) => {
    const path = join(directory, `layer-${index}.tar`);
    const sizeBytes = Math.ceil(tar.length / 512) * 512;
    writeFileSync(path, Buffer.concat([tar, Buffer.alloc(sizeBytes - tar.length)]));
    return { path, sizeBytes };
  });
}
