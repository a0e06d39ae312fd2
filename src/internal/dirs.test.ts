// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { MicrovmError } from "../errors.ts";
import { privateDir, userDirs } from "./dirs.ts";

const insecure = (error: unknown) => error instanceof MicrovmError && error.code === "INSECURE_DIRECTORY";

describe("privateDir", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "dirs-"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it("makes a directory for this user alone, parents included", () => {
    const path = privateDir(join(dir, "a", "b"));
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.equal(privateDir(path), path);
  });

  it("refuses what is open to others, and leaves it as it is", () => {
    const open = join(dir, "open");
    mkdirSync(open);
    chmodSync(open, 0o1777);
    assert.throws(() => privateDir(open), insecure);
    assert.equal(statSync(open).mode & 0o7777, 0o1777);
  });

  it("refuses a symlink", () => {
    symlinkSync(dir, join(dir, "link"));
    assert.throws(() => privateDir(join(dir, "link")), insecure);
  });
});

describe("userDirs", () => {
  it("prefers our variables over XDG's, and ignores a relative XDG directory", () => {
    const dirs = userDirs({
      MICROVM_CACHE_DIR: "/own",
      XDG_CACHE_HOME: "/xdg",
      XDG_DATA_HOME: "/xdg",
      XDG_RUNTIME_DIR: "relative",
    });
    assert.equal(dirs.cache, "/own");
    assert.equal(dirs.data, "/xdg/microvm");
    assert.match(dirs.runtime, /microvm-\d+$/);
  });
});
