// SPDX-License-Identifier: Apache-2.0
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { privateDir } from "../internal/dirs.ts";

/**
 * The answer to a question about this machine, asked once per reboot: `find` is called only if nothing is remembered
 * under this key. What is read back is only believed if `isValid` says so; not being able to write is no error.
 *
 * @param cacheDir - the user's cache directory; undefined remembers nothing.
 * @param key - everything the answer depends on.
 * @param isLasting - whether an answer is worth remembering. Default: every one.
 */
export async function remembered<T>(
  cacheDir: string | undefined,
  key: readonly (string | boolean)[],
  isValid: (value: unknown) => value is T,
  find: () => Promise<T>,
  isLasting: (answer: T) => boolean = () => true,
): Promise<T> {
  const boot = bootId();
  if (cacheDir === undefined || boot === undefined) return await find();
  privateDir(cacheDir);
  const dir = privateDir(join(cacheDir, "machine"));
  const bootTag = boot.slice(0, 8);
  const name = `${bootTag}-${createHash("sha256")
    .update(JSON.stringify([boot, ...key]))
    .digest("hex")
    .slice(0, 32)}`;
  const path = join(dir, name);
  const known = readJson(path);
  if (isValid(known)) return known;
  const answer = await find();
  if (!isLasting(answer)) return answer;
  writeJson(path, answer);
  forgetOtherBoots(dir, bootTag);
  return answer;
}

/** Source: random(4), /proc/sys/kernel/random/boot_id. */
function bootId(): string | undefined {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return undefined; // not Linux: asked anew each time
  }
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined; // not there, or torn: ask again
  }
}

function writeJson(path: string, value: unknown): void {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    writeFileSync(temporary, JSON.stringify(value), { mode: 0o600, flag: "wx" });
    renameSync(temporary, path);
  } catch {
    rmSync(temporary, { force: true }); // a full or read-only disk costs time, nothing else
  }
}

function forgetOtherBoots(dir: string, bootTag: string): void {
  for (const name of readdirSync(dir))
    if (!name.startsWith(bootTag)) rmSync(join(dir, name), { force: true });
}
