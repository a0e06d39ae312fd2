// SPDX-License-Identifier: Apache-2.0
import { chmod, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { type CallServer, type MachineCalls, serveCalls } from "../agent/index.ts";
import { MicrovmError } from "../errors.ts";
import type { Machine } from "./machine.ts";

/** How long clients get to read the last answer. */
const FAREWELL_MS = 1_000;
/** More than people and tools use at once; a runaway client must not take the machine's memory. */
const CONNECTION_LIMIT = 256;

export interface ApiServer {
  /** Lets the calls under way finish, then removes the socket. */
  close(): Promise<void>;
}

/** Serves a machine's api.sock: only this user can connect, and a connection that succeeds means the machine lives. */
export async function serveApi(machine: Machine): Promise<ApiServer> {
  const path = machine.spec.socketPath;
  const calls = new Set<CallServer>();
  const server = createServer((socket: Socket) => {
    const call = serveCalls(socket, machineCalls(machine));
    calls.add(call);
    void call.closed.then(() => calls.delete(call));
  });
  server.maxConnections = CONNECTION_LIMIT;
  const listening = Promise.withResolvers<void>();
  server.on("error", () => {}); // one client that could not be accepted
  server.once("error", listening.reject).listen(path, listening.resolve);
  try {
    await listening.promise; // the directory is private: nobody gets in before the mode is set
    await chmod(path, 0o600);
  } catch (error) {
    throw new MicrovmError("INTERNAL", `${path}: ${error instanceof Error ? error.message : error}`, {
      stage: "spawn",
      hint: "A path of a socket has at most 107 bytes: set MICROVM_RUNTIME_DIR to a shorter one.",
      cause: error,
    });
  }
  return {
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      const farewell = setTimeout(() => {
        for (const call of calls) call.close();
      }, FAREWELL_MS);
      await closed;
      clearTimeout(farewell);
      await rm(path, { force: true });
    },
  };
}

function machineCalls(machine: Machine): MachineCalls {
  return {
    exec: (spec) => machine.exec(spec),
    attach: (options, signal) => {
      const joined = machine.join(options);
      signal.addEventListener("abort", () => void joined[Symbol.asyncDispose](), { once: true });
      return joined;
    },
    wait: () => machine.finished,
    stop: (timeoutMs) => machine.stop(timeoutMs),
    kill: (signal) => machine.kill(signal),
    inspect: () => JSON.stringify(machine.inspect()),
  };
}
