// SPDX-License-Identifier: Apache-2.0
import { lstatSync, mkdirSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { MicrovmError } from "../errors.ts";

/** The three roots everything lives under. */
export interface Dirs {
  /** Images and runtime artefacts: may be deleted, costs only time. */
  readonly cache: string;
  /** VM state, logs and disks. */
  readonly data: string;
  /** Sockets; gone after a reboot. */
  readonly runtime: string;
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Where this user's files live: `MICROVM_{CACHE,DATA,RUNTIME}_DIR`, else the XDG base directories.
 *
 * Source: XDG Base Directory Specification 0.8.
 */
export function userDirs(env: Env = process.env): Dirs {
  const home = homedir();
  const under = (own: string, xdg: string, fallback: string): string => {
    const explicit = env[own];
    if (explicit) return resolve(explicit);
    const base = env[xdg];
    return base?.startsWith("/") ? join(base, "microvm") : fallback;
  };
  return {
    cache: under("MICROVM_CACHE_DIR", "XDG_CACHE_HOME", join(home, ".cache", "microvm")),
    data: under("MICROVM_DATA_DIR", "XDG_DATA_HOME", join(home, ".local", "share", "microvm")),
    runtime: under(
      "MICROVM_RUNTIME_DIR",
      "XDG_RUNTIME_DIR",
      join(tmpdir(), `microvm-${process.getuid?.() ?? 0}`),
    ),
  };
}

/**
 * Makes `path` (and its parents) a directory that only this user can enter, and refuses one that is not: what
 * somebody else made is not ours to change.
 *
 * @throws MicrovmError `INSECURE_DIRECTORY` if it is a symlink, belongs to someone else or is open to others.
 */
export function privateDir(path: string): string {
  const made = mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined;
  const stat = lstatSync(path);
  const uid = process.getuid?.();
  if (!stat.isDirectory() || (uid !== undefined && stat.uid !== uid)) {
    throw new MicrovmError("INSECURE_DIRECTORY", `${path}: not a directory of this user`, {
      stage: "state",
      hint: `Remove ${path} or point the matching MICROVM_*_DIR variable elsewhere.`,
    });
  }
  if ((stat.mode & 0o077) !== 0 && !made) {
    throw new MicrovmError("INSECURE_DIRECTORY", `${path}: open to other users`, {
      stage: "state",
      hint: `If it is for ts-microvm alone: chmod 700 ${path}. Else point the matching MICROVM_*_DIR variable elsewhere.`,
    });
  }
  return path;
}
