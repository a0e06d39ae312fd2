// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MicrovmError } from "../errors.ts";
import type { ImageConfig } from "../image/index.ts";
import { parseRunOptions, type RunOptions } from "../options.ts";
import { mergeEnv, stopSignalOf, workloadOf } from "./workload.ts";

const image = (own: Partial<ImageConfig> = {}): ImageConfig =>
  ({
    entrypoint: ["/entry"],
    cmd: ["default"],
    env: ["PATH=/bin", "A=1"],
    workingDir: "/app",
    user: "www",
    ...own,
  }) as ImageConfig;
const argsOf = (options: RunOptions, own?: Partial<ImageConfig>) =>
  workloadOf(image(own), parseRunOptions(options))?.args;

describe("the workload", () => {
  const cases: [string, RunOptions, readonly string[] | undefined][] = [
    ["is Entrypoint and Cmd of the image", {}, ["/entry", "default"]],
    ["has the command in place of Cmd", { command: ["x", "y"] }, ["/entry", "x", "y"]],
    ["has the entrypoint in place of Entrypoint and Cmd", { entrypoint: ["sh"] }, ["sh"]],
    ["has both replaced", { entrypoint: ["sh"], command: ["-c", "true"] }, ["sh", "-c", "true"]],
    ["runs the command alone with an empty entrypoint", { entrypoint: [], command: ["x"] }, ["x"]],
    ["is nothing with command null", { command: null }, undefined],
  ];
  for (const [name, options, expected] of cases) {
    it(name, () => assert.deepEqual(argsOf(options), expected));
  }

  it("must be something", () => {
    assert.throws(
      () => argsOf({}, { entrypoint: [], cmd: [] }),
      (error) => error instanceof MicrovmError && error.code === "INVALID_OPTION",
    );
  });

  it("takes environment, directory and user from the image unless the options say otherwise", () => {
    const own = workloadOf(image(), parseRunOptions({}));
    assert.deepEqual([own?.env, own?.cwd, own?.user], [["PATH=/bin", "A=1"], "/app", "www"]);
    const other = workloadOf(image(), parseRunOptions({ env: { A: "2", B: "" }, workdir: "/", user: "0" }));
    assert.deepEqual([other?.env, other?.cwd, other?.user], [["PATH=/bin", "A=2", "B="], "/", "0"]);
  });

  it("keeps values that hold an equals sign or a newline", () => {
    assert.deepEqual(mergeEnv(["A=b=c"], { X: "1\nexport Y=2" }), ["A=b=c", "X=1\nexport Y=2"]);
  });

  it("stops on the image's StopSignal, or SIGTERM", () => {
    assert.equal(stopSignalOf(image({ stopSignal: "SIGQUIT" }), {}), 3);
    assert.equal(stopSignalOf(image({ stopSignal: "SIGRTMIN+3" }), {}), 37);
    assert.equal(stopSignalOf(image({ stopSignal: "NONSENSE" }), {}), 15);
    assert.equal(stopSignalOf(image({ stopSignal: "SIGQUIT" }), { stopSignal: 2 }), 2);
    assert.equal(stopSignalOf(image(), {}), 15);
  });
});
