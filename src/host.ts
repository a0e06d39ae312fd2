// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { ImageStore } from "./image/index.ts";
import { type Dirs, privateDir, userDirs } from "./internal/dirs.ts";
import { VmRegistry } from "./state/index.ts";

/** What this user has on this machine: where things lie, the VMs, the images. */
export interface Host {
  readonly dirs: Dirs;
  readonly registry: VmRegistry;
  readonly images: ImageStore;
}

const hosts = new Map<string, Host>();

/** The user's host, opened once per process and set of directories. */
export function openHost(dirs: Dirs = userDirs()): Host {
  const key = JSON.stringify(dirs);
  let host = hosts.get(key);
  if (!host) {
    for (const dir of [dirs.cache, dirs.data, dirs.runtime]) privateDir(dir);
    host = {
      dirs,
      registry: new VmRegistry(dirs.data),
      images: new ImageStore({ dir: join(dirs.cache, "images") }),
    };
    hosts.set(key, host);
  }
  return host;
}
