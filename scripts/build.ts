// SPDX-License-Identifier: Apache-2.0
//
// Builds dist/: types by the compiler, code in a few files. What a `microvm run` waits for first is Node reading
// modules: a hundred small ones take three times as long as ten large ones.
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");
mkdirSync(join(root, "build"), { recursive: true });
const work = mkdtempSync(join(root, "build", "dist-"));
const dist = join(work, "new");

execFileSync("tsc", ["-p", "tsconfig.build.json", "--outDir", dist], { cwd: root, stdio: "inherit" });
await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts", "src/cli/main.ts", "src/monitor/main.ts"],
  outdir: dist,
  outbase: join(root, "src"),
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  platform: "node",
  format: "esm",
  target: "node22.18",
  // Large, and needed only when something is fetched.
  external: ["undici", "pacote"],
  legalComments: "linked",
  logLevel: "warning",
  // commander is CommonJS.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module";\nconst require = __createRequire(import.meta.url);',
  },
});
chmodSync(join(dist, "cli/main.js"), 0o755);

// What runs from dist/ meanwhile finds the old one or the new one, never half of it.
const place = join(root, "dist");
if (existsSync(place)) renameSync(place, join(work, "old"));
renameSync(dist, place);
rmSync(work, { recursive: true });
