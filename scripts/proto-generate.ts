// SPDX-License-Identifier: Apache-2.0
//
// Generates both sides of proto/: TypeScript into src/agent/gen, Go into guest/gen. Offline once `npm ci` and
// `go mod download` have run; the result is committed.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const typescriptOut = join(root, "src/agent/gen");
const goOut = join(root, "guest/gen");

const template = {
  version: "v2",
  clean: true,
  plugins: [
    {
      local: join(root, "node_modules/.bin/protoc-gen-es"),
      out: typescriptOut,
      opt: ["target=ts", "import_extension=ts", "erasable_syntax=true"],
    },
    {
      // No reflection: see "The agent's size" in guest/README.md.
      local: ["go", "-C", join(root, "guest/tools"), "tool", "protoc-gen-go-lite"],
      out: goOut,
      opt: ["module=microvm.internal/guest/gen", "features=marshal+unmarshal+size"],
    },
  ],
};

const { status, error } = spawnSync(
  join(root, "node_modules/.bin/buf"),
  ["generate", join(root, "proto"), "--template", JSON.stringify(template)],
  { stdio: "inherit", cwd: root },
);
if (error) throw error;
if (status !== 0) throw new Error(`buf generate: exit status ${status}`);

// buf copies the licence of the .proto below the generated header; the house rule wants it on line 1.
const licence = "// SPDX-License-Identifier: Apache-2.0\n";
for (const out of [typescriptOut, goOut]) {
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const text = readFileSync(path, "utf8");
    if (!text.startsWith(licence)) writeFileSync(path, licence + text);
  }
}

// The generator leaves assignments nobody reads.
writeFileSync(
  join(goOut, "staticcheck.conf"),
  `# SPDX-License-Identifier: Apache-2.0\nchecks = ["inherit", "-SA4006"]\n`,
);
