// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, statSync } from "node:fs";

/** Changes when the file does: replaced, upgraded, other permissions; and when this process may do more, or less, with it. */
export function fileIdentity(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (!stat) return `${path} missing`;
  return [
    path,
    stat.dev,
    stat.ino,
    stat.rdev,
    stat.size,
    stat.mtimeNs,
    stat.ctimeNs,
    stat.mode,
    access(path),
  ].join(" ");
}

/** The user's groups are in no file's inode. */
function access(path: string): string {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return "rw";
  } catch {
    return "restricted"; // how far does not matter
  }
}
