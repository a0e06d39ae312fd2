// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MicrovmError } from "../errors.ts";
import type { Availability, Backend } from "./backend.ts";
import { selectBackend } from "./index.ts";
import { qemu } from "./qemu/index.ts";

function backend(availability: Availability): Backend {
  return {
    name: "given",
    availability: () => Promise.resolve(availability),
    start: () => Promise.reject(new Error("not started")),
  };
}

test("a backend that is given is used, with its warning", async () => {
  const given = backend({ ok: true, version: "1", acceleration: "tcg", warning: "slow" });
  const selected = await selectBackend(given);
  assert.deepEqual(selected, { backend: given, version: "1", acceleration: "tcg", warning: "slow" });
});

test("when nothing is available the error has each reason and hint", async () => {
  const given = backend({ ok: false, reason: "not here", hint: "Go there." });
  await assert.rejects(selectBackend(given), (error) => {
    assert.ok(error instanceof MicrovmError);
    assert.equal(error.code, "BACKEND_UNAVAILABLE");
    assert.equal(error.message, "given: not here");
    assert.equal(error.hint, "Go there.");
    return true;
  });
});

test("a name there is not is refused with the names there are", async () => {
  await assert.rejects(selectBackend("xen"), /backend: xen: must be one of auto, .*qemu/);
});

test("a QEMU that is not there, or is something else, is unavailable with a hint", async () => {
  for (const binary of ["/nonexistent/qemu", "/bin/true"]) {
    const availability = await qemu({ binary, accel: "tcg" }).availability();
    assert.equal(availability.ok, false);
    assert.ok(
      !availability.ok && availability.reason.includes(binary) && availability.hint.includes("QEMU 7.2"),
    );
  }
});

test("what is found out about the machine is remembered until it reboots", async (t) => {
  const cacheDir = mkdtempSync(join(tmpdir(), "microvm-select-"));
  try {
    const first = await qemu({ cacheDir }).availability();
    if (!first.ok) return t.skip(`${first.reason}; ${first.hint}`);
    const [name] = readdirSync(join(cacheDir, "machine"));
    const path = join(cacheDir, "machine", name!);
    writeFileSync(path, readFileSync(path, "utf8").replace(first.version, "99.9"));
    assert.deepEqual(await qemu({ cacheDir }).availability(), { ...first, version: "99.9" });
  } finally {
    rmSync(cacheDir, { recursive: true });
  }
});
