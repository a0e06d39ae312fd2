// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatPlatform, hostPlatform, parsePlatform, platformDistance } from "./platform.ts";
import { failsWith } from "./testing/store-fixture.ts";

describe("parsePlatform", () => {
  const spellings: Record<string, string> = {
    "linux/amd64": "linux/amd64",
    amd64: "linux/amd64",
    "linux/x86_64": "linux/amd64",
    "linux/arm64/v8": "linux/arm64",
    aarch64: "linux/arm64",
    "linux/arm": "linux/arm",
    "linux/arm/v7": "linux/arm",
    "linux/arm/v6": "linux/arm/v6",
    "arm/v6": "linux/arm/v6",
    armhf: "linux/arm",
    "LINUX/AMD64": "linux/amd64",
    "windows/amd64": "windows/amd64",
    "linux/amd64/v3": "linux/amd64/v3",
  };
  for (const [text, expected] of Object.entries(spellings)) {
    it(`reads ${text} as ${expected}`, () => assert.equal(formatPlatform(parsePlatform(text)), expected));
  }
  for (const text of ["", "/", "linux/", "a/b/c/d", "linux/am d64", "linux"]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parsePlatform(text), failsWith("INVALID_OPTION", /is not OS\/ARCH/));
    });
  }
});

describe("platformDistance", () => {
  const distance = (wanted: string, offered: string) =>
    platformDistance(parsePlatform(wanted), parsePlatform(offered));

  it("takes the same platform, however it is spelled", () => {
    assert.equal(distance("linux/arm64", "linux/arm64/v8"), 0);
    assert.equal(distance("amd64", "linux/x86_64"), 0);
  });

  it("prefers near variants, and takes none that the processor lacks", () => {
    assert.ok(
      (distance("linux/arm/v7", "linux/arm/v6") ?? 9) < (distance("linux/arm/v7", "linux/arm/v5") ?? 0),
    );
    assert.equal(distance("linux/arm/v6", "linux/arm/v7"), undefined);
    assert.equal(distance("linux/amd64", "linux/amd64/v3"), undefined);
    assert.equal(distance("linux/amd64", "linux/arm64"), undefined);
    assert.equal(distance("linux/amd64", "windows/amd64"), undefined);
    assert.equal(distance("linux/arm/v7", "linux/arm/vnonsense"), undefined);
  });

  it("asks for Linux on this machine by default", () => assert.equal(hostPlatform().os, "linux"));
});
