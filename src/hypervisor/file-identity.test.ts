// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileIdentity } from "./file-identity.ts";

test("a file's identity changes when the file does, and when it comes or goes", () => {
  const dir = mkdtempSync(join(tmpdir(), "microvm-identity-"));
  try {
    const path = join(dir, "file");
    const seen = [fileIdentity(path)];
    writeFileSync(path, "a");
    seen.push(fileIdentity(path));
    assert.equal(fileIdentity(path), seen[1]);
    writeFileSync(path, "bb");
    seen.push(fileIdentity(path));
    chmodSync(path, 0o640);
    seen.push(fileIdentity(path));
    assert.equal(new Set(seen).size, 4);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("a user who joins the file's group sees another identity, though the file is the same", (t) => {
  if (process.getuid?.() !== 0) return t.skip("needs root, to be several users");
  const dir = mkdtempSync(join(tmpdir(), "microvm-identity-"));
  try {
    const path = join(dir, "device");
    const group = 54321;
    writeFileSync(path, "");
    chownSync(path, 0, group);
    chmodSync(path, 0o660);
    chmodSync(dir, 0o755);
    const seenWith = (groups: readonly number[]): string => {
      const script = `
        import { fileIdentity } from ${JSON.stringify(join(import.meta.dirname, "file-identity.ts"))};
        process.setgroups(${JSON.stringify(groups)});
        process.setgid(65534);
        process.setuid(65534);
        console.log(fileIdentity(${JSON.stringify(path)}));`;
      return execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    };
    const before = seenWith([]);
    assert.equal(seenWith([]), before);
    assert.notEqual(seenWith([group]), before);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
