// SPDX-License-Identifier: Apache-2.0
import { homedir } from "node:os";
import { join } from "node:path";

type Env = Readonly<Record<string, string | undefined>>;

/** Names a library goes by in a directory, best first. */
export function libraryNames(library: "libkrun" | "libkrunfw", platform: NodeJS.Platform): string[] {
  const major = library === "libkrun" ? 1 : 5;
  return platform === "darwin" ? [`${library}.${major}.dylib`] : [`${library}.so.${major}`];
}

/** Where distributions, Homebrew, Nix and people who build from source put libraries, in order of preference. */
export function systemLibraryDirs(platform: NodeJS.Platform, arch: string, env: Env = process.env): string[] {
  const home = env.HOME ?? homedir();
  const nix = [
    join(home, ".nix-profile/lib"),
    join(home, ".local/state/nix/profile/lib"),
    `/etc/profiles/per-user/${env.USER ?? "root"}/lib`,
    "/run/current-system/sw/lib",
    "/nix/var/nix/profiles/default/lib",
  ];
  if (platform === "darwin") return ["/opt/homebrew/lib", "/usr/local/lib", ...nix];
  const triplet = arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  return [
    "/usr/local/lib64",
    "/usr/local/lib",
    `/usr/local/lib/${triplet}`,
    "/usr/lib64",
    `/usr/lib/${triplet}`,
    "/usr/lib",
    ...nix,
    "/home/linuxbrew/.linuxbrew/lib",
  ];
}
