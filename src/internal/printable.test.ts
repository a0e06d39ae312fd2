// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { printable, printableJson } from "./printable.ts";

describe("printable", () => {
  it("escapes what drives a terminal or turns text around, and nothing else", () => {
    assert.equal(printable("a\x1b[31m\u009b1m\u202eb é 漢"), "a\\u001b[31m\\u009b1m\\u202eb é 漢");
    assert.equal(printable("two\nlines"), "two\\u000alines");
  });

  it("leaves JSON that parses to the same value", () => {
    const value = { name: "\u009b\u202e\n", list: ["plain", "\x1b"] };
    const text = printableJson(value, 2);
    assert.deepEqual(JSON.parse(text), value);
    assert.equal(/[^\P{C}\n]/u.test(text), false);
  });
});
