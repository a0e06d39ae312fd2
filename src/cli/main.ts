#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { privateDir, userDirs } from "../internal/dirs.ts";

// A command lives for seconds: letting the young generation grow to 64 MB buys it no time, only memory.
setFlagsFromString("--max-semi-space-size=4");
try {
  // Not in the temporary directory, where it would be anybody's to prepare.
  enableCompileCache?.(privateDir(join(privateDir(userDirs().cache), "node")));
} catch {
  // Slower, but no less right; the command itself says what is wrong with the directory.
}
const { runCli } = await import("./program.ts");
await runCli(process.argv);
