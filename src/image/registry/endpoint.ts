// SPDX-License-Identifier: Apache-2.0
import { BlockList, isIP } from "node:net";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Where the API of a registry is. Docker Hub's is not at the host its images are named after. */
export function registryUrl(registry: string): URL {
  const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
  // Nobody can listen in on loopback, and nobody has a certificate for it.
  const scheme = isLoopback(new URL(`https://${host}/`)) ? "http" : "https";
  return new URL(`${scheme}://${host}/v2/`);
}

/** Whether `url` leads to this very machine, by what it says and not by what a resolver would answer. */
export function isLoopback(url: URL): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const family = isIP(host);
  if (family !== 0) return loopback.check(host, family === 6 ? "ipv6" : "ipv4");
  return host === "localhost";
}
