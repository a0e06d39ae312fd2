#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { enableCompileCache } from "node:module";

enableCompileCache?.();
const { runCli } = await import("./program.ts");
await runCli(process.argv);
