// SPDX-License-Identifier: Apache-2.0
//
// Assembles src/hypervisor/probe/guest.S into guest.ts, which is committed: `node scripts/probe-assemble.ts`. Needs gcc
// and ld for x86-64. With `--check` it only says whether guest.ts is up to date.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const folder = join(import.meta.dirname, "../src/hypervisor/probe");
const target = join(folder, "guest.ts");

const code = assemble();
if (process.argv.includes("--check")) {
  const { PROBE_GUEST } = await import("../src/hypervisor/probe/guest.ts");
  if (!code.equals(PROBE_GUEST)) throw new Error(`${target} is not what guest.S assembles to`);
} else {
  const lines = code.toString("base64").match(/.{1,100}/g) ?? [];
  writeFileSync(
    target,
    `// SPDX-License-Identifier: Apache-2.0

/** guest.S, assembled by scripts/probe-assemble.ts: flat code for guest-physical address 0x100000. */
export const PROBE_GUEST = Buffer.from(
${lines.map((line) => `  "${line}"`).join(" +\n")},
  "base64",
);
`,
  );
}

function assemble(): Buffer {
  const dir = mkdtempSync(join(tmpdir(), "microvm-probe-"));
  try {
    const [object, binary] = [join(dir, "guest.o"), join(dir, "guest.bin")];
    execFileSync("gcc", ["-c", "-o", object, join(folder, "guest.S")]);
    execFileSync("ld", [
      "-m",
      "elf_x86_64",
      "-Ttext",
      "0x100000",
      "--oformat",
      "binary",
      "-o",
      binary,
      object,
    ]);
    return readFileSync(binary);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
