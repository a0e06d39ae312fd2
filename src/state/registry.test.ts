// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { MicrovmError } from "../errors.ts";
import { type NewVm, VmRegistry } from "./index.ts";

const vm = (id: string, name: string): NewVm => ({
  id,
  name,
  dir: `/vms/${id}`,
  socketPath: `/run/${id}.sock`,
  imageReference: "debian:12",
  imageId: "sha256:00",
  command: ["sh", "-c", "true"],
  labels: { a: "b" },
  autoRemove: false,
  createdAt: 1,
  details: { cpus: 1 },
});

describe("VmRegistry", () => {
  let dir: string;
  let registry: VmRegistry;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "registry-"));
    registry = new VmRegistry(dir);
  });
  afterEach(() => {
    registry[Symbol.dispose]();
    rmSync(dir, { recursive: true });
  });
  const code = (expected: string) => (error: unknown) =>
    error instanceof MicrovmError && error.code === expected;

  it("gives back what was put in, to another process's registry too", () => {
    registry.insert(vm("aa11", "one"));
    using other = new VmRegistry(dir);
    assert.deepEqual(other.find("one"), {
      ...vm("aa11", "one"),
      startedAt: undefined,
      finishedAt: undefined,
      exitCode: undefined,
      error: undefined,
    });
  });

  it("finds by name, by id and by an unambiguous start of an id", () => {
    registry.insert(vm("aa11", "one"));
    registry.insert(vm("aa22", "two"));
    assert.equal(registry.find("two").id, "aa22");
    assert.equal(registry.find("aa11").name, "one");
    assert.equal(registry.find("aa1").name, "one");
    assert.throws(() => registry.find("aa"), code("VM_NOT_FOUND"));
    assert.throws(() => registry.find("zz%"), code("VM_NOT_FOUND"));
  });

  it("refuses a name that is taken", () => {
    registry.insert(vm("aa11", "one"));
    assert.throws(() => registry.insert(vm("bb22", "one")), code("NAME_IN_USE"));
  });

  it("keeps the first end of a VM", () => {
    registry.insert(vm("aa11", "one"));
    registry.finished("aa11", { at: 5, exitCode: 42 });
    registry.finished("aa11", { at: 6, error: "late" });
    assert.deepEqual([registry.find("one").exitCode, registry.find("one").error], [42, undefined]);
  });

  it("says so when the file is no database", () => {
    const broken = mkdtempSync(join(tmpdir(), "registry-"));
    writeFileSync(join(broken, "state.db"), "this is not SQLite".repeat(100));
    assert.throws(() => new VmRegistry(broken), code("STATE_CORRUPT"));
    rmSync(broken, { recursive: true });
  });
});
