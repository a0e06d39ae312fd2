// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { Option } from "commander";
import { optionsDocument } from "../scripts/options-doc.ts";
import { envOf, LIBRARY_ONLY, RUN_FLAGS, runOptionsOf } from "./cli/run-flags.ts";
import { MicrovmError } from "./errors.ts";
import { parseRunOptions, type RunOptions, runOptionsSchema } from "./options.ts";

const refused = (options: unknown) => {
  try {
    parseRunOptions(options as RunOptions);
  } catch (error) {
    assert.ok(error instanceof MicrovmError && error.code === "INVALID_OPTION" && error.stage === "options");
    return error.message;
  }
  return assert.fail(`accepted ${JSON.stringify(options)}`);
};

describe("run options", () => {
  it("have the narrowest defaults", () => {
    const { network, pull, remove, detach, readOnly, tty, stdin } = parseRunOptions({});
    assert.deepEqual(
      { network, pull, remove, detach, readOnly, tty, stdin },
      {
        network: "none",
        pull: "missing",
        remove: false,
        detach: false,
        readOnly: false,
        tty: false,
        stdin: false,
      },
    );
  });

  for (const [what, options, named] of [
    ["an option that does not exist", { cpu: 1 }, "cpu"],
    ["no CPU", { cpus: 0 }, "cpus"],
    ["half a CPU", { cpus: 1.5 }, "cpus"],
    ["a name with a slash", { name: "a/b" }, "name"],
    ["an empty name", { name: "" }, "name"],
    ["a variable without a name", { env: { "": "x" } }, "env"],
    ["a variable whose name has an equals sign", { env: { "A=B": "x" } }, "env"],
    ["a NUL in a value", { env: { A: "a\0b" } }, "env.A"],
    ["a NUL in an argument", { command: ["a\0b"] }, "command"],
    ["a relative directory", { workdir: "here" }, "workdir"],
    ["a relative tmpfs", { tmpfs: ["here"] }, "tmpfs"],
    ["a signal that does not exist", { stopSignal: "SIGNOPE" }, "stopSignal"],
    ["another network", { network: "everything" }, "network"],
    ["a foreign operating system", { platform: "windows/amd64" }, "platform"],
  ] as const) {
    it(`refuse ${what}, by name`, () => assert.match(refused(options), new RegExp(named)));
  }
});

describe("the flags of `microvm run`", () => {
  it("reach every option of the library but those for programs only", () => {
    const reached = new Set<string>([...RUN_FLAGS.map(({ option }) => option), ...LIBRARY_ONLY]);
    assert.deepEqual([...reached].sort(), Object.keys(runOptionsSchema.shape).sort());
  });

  it("become options that the schema takes", () => {
    const flags = {
      env: ["A=1", "B"],
      label: ["k=v", "bare"],
      entrypoint: "",
      tmpfs: ["/x"],
      memory: 256,
      tty: true,
    };
    const options = runOptionsOf(flags, ["cmd", "-x"]);
    assert.deepEqual(options.labels, { k: "v", bare: "" });
    assert.deepEqual(options.entrypoint, []);
    assert.deepEqual(options.command, ["cmd", "-x"]);
    assert.equal(options.memoryMiB, 256);
    parseRunOptions(options);
  });

  it("have no two of one name", () => {
    const names = RUN_FLAGS.flatMap(({ flags }) => {
      const { short, long } = new Option(flags);
      return [short, long].filter((name) => name !== undefined);
    });
    assert.equal(new Set(names).size, names.length);
  });

  it("take variables from this process when they have no value", () => {
    process.env["OPTIONS_TEST"] = "here";
    assert.deepEqual(envOf(["OPTIONS_TEST", "A=", "A=2", "OPTIONS_TEST_ABSENT"]), {
      OPTIONS_TEST: "here",
      A: "2",
    });
  });
});

describe("docs/OPTIONS.md", () => {
  it("says what the schemas say", () => {
    const file = fileURLToPath(new URL("../docs/OPTIONS.md", import.meta.url));
    assert.equal(readFileSync(file, "utf8"), optionsDocument(), "run: node scripts/options-doc.ts");
  });
});
