// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { type ErrorCode, MicrovmError } from "../../errors.ts";
import { digestOf } from "../digest.ts";
import type { RegistryTuning } from "../registry/tuning.ts";
import { ImageStore, type StoredImage } from "../store.ts";

/** Patience for tests: everything that waits waits briefly. */
export const IMPATIENT: Partial<RegistryTuning> = {
  connectTimeoutMs: 2_000,
  headersTimeoutMs: 1_000,
  stallTimeoutMs: 1_000,
  attempts: 3,
  backoffMs: 2,
  maxBackoffMs: 10,
  maxRetryAfterMs: 1_000,
};

/** A store in a directory of its own, which goes with it. */
export class StoreFixture implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "microvm-store-"));
  readonly storeDir = join(this.dir, "images");
  /** Where a test may put credentials. */
  readonly dockerConfig = join(this.dir, "config.json");
  readonly store = this.open();

  open(tuning: Partial<RegistryTuning> = {}): ImageStore {
    const { storeDir: dir, dockerConfig } = this;
    return new ImageStore({ dir, dockerConfig, tuning: { ...IMPATIENT, ...tuning } });
  }

  /** Nothing half done is left: no work in progress, no image. */
  assertEmpty(): void {
    this.assertNothingStaged();
    assert.deepEqual(this.store.list(), []);
    assert.equal(existsSync(join(this.storeDir, "rootfs")), false, "a rootfs was left");
  }

  assertNothingStaged(): void {
    const staging = join(this.storeDir, "tmp");
    assert.deepEqual(existsSync(staging) ? readdirSync(staging) : [], []);
  }

  /** Every layer in the store is what its name says. */
  assertLayersGenuine(image: StoredImage): void {
    for (const { diffId, size } of image.layers) {
      const tar = readFileSync(join(this.storeDir, "layers", "sha256", diffId.slice(7), "layer.tar"));
      assert.equal(tar.length % 512, 0);
      assert.equal(digestOf(tar.subarray(0, size)), diffId);
    }
  }

  /** The disk's parts, which must all exist. */
  assertDisk(image: StoredImage): void {
    const extents = [...readFileSync(image.diskPath, "utf8").matchAll(/^RW \d+ FLAT "([^"]+)" 0$/gm)];
    assert.ok(extents.length >= 1);
    for (const [, path = ""] of extents) assert.ok(existsSync(resolve(dirname(image.diskPath), path)), path);
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** For `assert.rejects` and `assert.throws`: a `MicrovmError` of this code with a hint, whose message matches. */
export function failsWith(code: ErrorCode, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof MicrovmError, `not a MicrovmError: ${error}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.ok(code === "ABORTED" || code === "TIMEOUT" || error.hint, "no hint");
    return true;
  };
}
