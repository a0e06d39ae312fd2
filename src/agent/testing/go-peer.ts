// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { packageFile } from "../../internal/package.ts";

export interface PeerProcess extends Disposable {
  readonly process: ChildProcess;
  /** Our end of the socket pair. */
  readonly socket: Socket;
}

/** Why the Go peer cannot be built, as a sentence for a skipped test; false if it can. */
export function noGoPeer(): string | false {
  const go = spawnSync("go", ["version"], { stdio: "ignore" });
  return go.status === 0 ? false : "needs Go to build the peer: install the version that guest/go.mod names";
}

/** Builds hashicorp/yamux behind a socket. */
export function buildGoPeer(): string {
  const path = packageFile("build/test/yamuxpeer");
  const { status, stderr } = spawnSync("go", ["build", "-o", path, "./internal/yamuxpeer"], {
    cwd: packageFile("guest"),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`go build yamuxpeer: ${stderr}`);
  return path;
}

/** Starts a program with one end of a socket pair as its fd 3. */
export function spawnPeer(path: string, args: readonly string[]): PeerProcess {
  const child = spawn(path, args, { stdio: ["ignore", "inherit", "inherit", "pipe"] });
  const socket = child.stdio[3] as Socket;
  return {
    process: child,
    socket,
    [Symbol.dispose]() {
      socket.destroy();
      child.kill("SIGKILL");
    },
  };
}

/** The guest's agent, built for this machine: serves the channel without booting. */
export function nativeAgent(): { readonly path: string } | { readonly missing: string } {
  const arch = process.arch === "x64" ? "amd64" : process.arch;
  const path = packageFile(`build/guest/linux-${arch}/agent`);
  if (process.platform !== "linux") return { missing: "needs Linux to run the agent as a process" };
  return existsSync(path) ? { path } : { missing: "needs the agent: npm run guest:build" };
}
