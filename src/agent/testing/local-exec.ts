// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { MicrovmError } from "../../errors.ts";
import type { Exec, ExecSpec } from "../types.ts";

/** A process of this host as an `Exec`: what a test serves in place of one in a guest. */
export function localExec({ args = [], stdin, stdout, stderr }: ExecSpec): Exec {
  const [command = "", ...rest] = args;
  const wanted = [stdin, stdout, stderr].map((is) => (is ? "pipe" : "ignore"));
  const child = spawn(command, rest, { stdio: wanted as ("pipe" | "ignore")[] });
  const started = Promise.withResolvers<number>();
  child.once("spawn", () => started.resolve(child.pid ?? 0));
  const failed = Promise.withResolvers<never>();
  child.once("error", (error) => {
    const notFound = new MicrovmError("COMMAND_NOT_FOUND", error.message, { stage: "exec" });
    started.reject(notFound);
    failed.reject(notFound);
  });
  const ended = once(child, "exit").then(([code, signal]) => ({
    code: code ?? 0,
    signal: signal ? constants.signals[signal as NodeJS.Signals] : 0,
  }));
  const exit = Promise.race([ended, failed.promise]);
  exit.catch(() => {});
  started.promise.catch(() => {});
  child.stdin?.on("error", () => {});
  return {
    stdin: child.stdin ?? undefined,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    pid: started.promise,
    exit,
    kill: (signal) => void child.kill(signal),
    resize: () => {},
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
    },
  };
}
