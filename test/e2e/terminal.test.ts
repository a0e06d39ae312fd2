// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, it } from "node:test";
import { IMAGES, ROOT, startRegistry, testHome } from "./harness.ts";

const { env } = testHome();
const registry = await startRegistry();
registry.pushLayout(join(IMAGES, "tiny"), "tiny:latest");

describe("microvm run -it", () => {
  it("follows the window's size, passes Ctrl-C on as a key, and leaves the terminal as it was", () => {
    const { status, stdout, stderr } = spawnSync(
      "python3",
      [
        join(ROOT, "test/e2e/terminal.py"),
        ...[process.execPath, join(ROOT, "dist/cli/main.js"), "run", "--rm", "-q", "-it"],
        ...["-e", "PS1=# ", `${registry.host}/tiny`, "sh"],
      ],
      { env, encoding: "utf8" },
    );
    assert.equal(status, 6, stderr);
    assert.equal(stdout, "restored\n");
  });
});
