// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";

/** Folder with a recent fsck.erofs, dump.erofs and mkfs.erofs, or the reason why there is none. */
export function erofsTools(): { readonly bin: string } | { readonly missing: string } {
  const script = join(import.meta.dirname, "..", "..", "..", "scripts", "erofs-tools");
  const { status, stdout } = spawnSync(script, ["--cached"], { encoding: "utf8" });
  if (status !== 0) return { missing: "needs erofs-utils 1.8: run scripts/erofs-tools" };
  return { bin: stdout.trim() };
}

/** Runs one of the tools and returns what it prints; throws when it fails. */
export function runTool(
  bin: string,
  tool: "fsck.erofs" | "dump.erofs" | "mkfs.erofs",
  ...args: string[]
): string {
  return execFileSync(join(bin, tool), args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
