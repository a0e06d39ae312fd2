// SPDX-License-Identifier: Apache-2.0
import { PassThrough } from "node:stream";
import type { Exec } from "../agent/index.ts";
import type { OutputSink } from "./output.ts";

/** A second pair of hands on the workload: own streams, and letting go ends nothing. */
export function joinWorkload(
  workload: Exec,
  attachOutput: (sink: OutputSink) => () => void,
  options: { readonly stdin: boolean },
): Exec {
  const stdout = new PassThrough();
  const stderr = workload.stderr && new PassThrough();
  const detach = attachOutput({ stdout, stderr });
  let stdin: PassThrough | undefined;
  if (options.stdin && workload.stdin) {
    stdin = new PassThrough();
    stdin.pipe(workload.stdin, { end: false });
  }
  return {
    stdin,
    stdout,
    stderr,
    pid: workload.pid,
    exit: workload.exit,
    kill: (signal) => workload.kill(signal),
    resize: (size) => workload.resize(size),
    async [Symbol.asyncDispose]() {
      detach();
      if (workload.stdin) stdin?.unpipe(workload.stdin);
      stdout.destroy();
      stderr?.destroy();
    },
  };
}
