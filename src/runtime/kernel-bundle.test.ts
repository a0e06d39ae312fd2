// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../errors.ts";
import { parseElfLibrary } from "./elf.ts";
import { readKernelBundle } from "./kernel-bundle.ts";
import { kernelFileParts } from "./kernel-file.ts";
import {
  ENTRY_ADDRESS,
  fakeKernel,
  krunfwLibrary,
  LOAD_ADDRESS,
  optimizedCode,
  unoptimizedCode,
} from "./testing/krunfw.ts";

const size = fakeKernel().length;

function isCorrupt(error: unknown): boolean {
  return error instanceof MicrovmError && error.code === "RUNTIME_CORRUPT" && error.stage === "runtime";
}

for (const [how, code] of [
  ["unoptimised", unoptimizedCode(size)],
  ["optimised", optimizedCode(size)],
] as const) {
  test(`the kernel and its addresses are read from ${how} code`, () => {
    const bundle = readKernelBundle(krunfwLibrary({ code }));
    assert.deepEqual(Buffer.from(bundle.image), Buffer.from(fakeKernel()));
    assert.equal(bundle.loadAddress, LOAD_ADDRESS);
    assert.equal(bundle.entryAddress, ENTRY_ADDRESS);
    assert.equal(bundle.machine, "x64");
  });
}

test("an arm64 kernel is an Image at the address libkrunfw always uses", () => {
  const kernel = Buffer.alloc(4096);
  kernel.write("ARMd", 56, "latin1");
  const bundle = readKernelBundle(krunfwLibrary({ machine: 183, kernel }));
  assert.equal(bundle.machine, "arm64");
  assert.equal(bundle.loadAddress, 0x8000_0000);
  assert.deepEqual(kernelFileParts(bundle), [bundle.image]);
});

const refused: readonly (readonly [string, () => Uint8Array])[] = [
  ["no bytes at all", () => new Uint8Array()],
  ["text", () => Buffer.from("#!/bin/sh\n".repeat(50))],
  ["half a file", () => krunfwLibrary().subarray(0, 0x2000)],
  ["an executable", () => patched(16, 2)],
  ["another machine", () => krunfwLibrary({ machine: 8 })],
  ["an arm64 library without an Image in it", () => krunfwLibrary({ machine: 183 })],
  ["a size in the code that is not the array's", () => krunfwLibrary({ code: unoptimizedCode(size + 1) })],
  [
    "an entry point outside the kernel",
    () => krunfwLibrary({ code: unoptimizedCode(size, LOAD_ADDRESS, LOAD_ADDRESS + size) }),
  ],
  ["code with no constants", () => krunfwLibrary({ code: Buffer.alloc(64, 0x90) })],
  [
    "code that ends inside an instruction",
    () => krunfwLibrary({ code: unoptimizedCode(size).subarray(0, 45) }),
  ],
  ["a section table beyond the end", () => patched(41, 0xff)],
  ["65535 sections", () => patched(60, 0xff, 0xff)],
  ["a symbol table beyond the end", () => patchedSection(1, 24, 0xff, 0xff, 0xff, 0x7f)],
  ["names in a section that is not there", () => patchedSection(1, 40, 9)],
  ["a symbol table of 2^56 bytes", () => patchedSection(1, 39, 1)],
];

for (const [what, library] of refused) {
  test(`refused: ${what}`, () => {
    assert.throws(() => readKernelBundle(library()), isCorrupt);
  });
}

test("no change of bytes makes the parser fail in another way than by refusing", () => {
  const good = krunfwLibrary();
  const interesting = [
    ...Array(0x500).keys(),
    ...Array.from({ length: 192 }, (_, i) => good.length - 192 + i),
  ];
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom(...interesting), fc.integer({ min: 0, max: 255 })), {
        minLength: 1,
        maxLength: 12,
      }),
      (changes) => {
        const library = Buffer.from(good);
        for (const [at, value] of changes) library[at] = value;
        try {
          const { image } = readKernelBundle(library);
          assert.ok(image.length <= library.length);
        } catch (error) {
          assert.ok(isCorrupt(error), String(error));
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test("no bytes at all make the ELF parser fail in another way than by refusing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 512 }), (bytes) => {
      assert.throws(() => parseElfLibrary(bytes), isCorrupt);
    }),
  );
});

test("the kernel is wrapped with its PVH entry, load address and 64-bit entry", () => {
  const [header, image] = kernelFileParts(readKernelBundle(krunfwLibrary()));
  assert.ok(header && image);
  const elf = Buffer.from(header);
  assert.equal(elf.toString("latin1", 0, 4), "\x7fELF");
  assert.equal(elf.readBigUInt64LE(24), BigInt(ENTRY_ADDRESS));
  assert.equal(elf.readBigUInt64LE(64 + 8), BigInt(header.length), "the segment follows the header");
  assert.equal(elf.readBigUInt64LE(64 + 24), BigInt(LOAD_ADDRESS));
  assert.equal(elf.readBigUInt64LE(64 + 32), BigInt(image.length));
  const note = Number(elf.readBigUInt64LE(64 + 56 + 8));
  assert.equal(elf.readUInt32LE(note + 8), 18, "XEN_ELFNOTE_PHYS32_ENTRY");
  assert.equal(elf.readUInt32LE(note + 16), LOAD_ADDRESS);
});

function patched(at: number, ...bytes: number[]): Buffer {
  const library = krunfwLibrary();
  library.set(bytes, at);
  return library;
}

function patchedSection(index: number, at: number, ...bytes: number[]): Buffer {
  const library = krunfwLibrary();
  library.set(bytes, library.length - (3 - index) * 64 + at);
  return library;
}
