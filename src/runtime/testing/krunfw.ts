// SPDX-License-Identifier: Apache-2.0

export interface KrunfwParts {
  readonly kernel?: Uint8Array;
  readonly machine?: number;
  readonly code?: Uint8Array;
}

export const LOAD_ADDRESS = 0x100_0000;
export const ENTRY_ADDRESS = 0x100_0123;

/** A kernel that no CPU would run, recognisable and of a size to be told from the addresses. */
export function fakeKernel(): Uint8Array {
  return Buffer.alloc(0x1_0000, "kernel ");
}

/** What gcc -O0 makes of krunfw_get_kernel: each pointer is loaded into rax, each constant stored through it. */
export function unoptimizedCode(size: number, load = LOAD_ADDRESS, entry = ENTRY_ADDRESS): Uint8Array {
  return code("554889e5 48897df8 488975f0 488955e8", [
    ["488b45f8 48c700", load],
    ["488b45f0 48c700", entry],
    ["488b45e8 48c700", size],
  ]);
}

/** What gcc -O2 makes of it: constants stored through the argument registers, in an order of its own. */
export function optimizedCode(size: number, load = LOAD_ADDRESS, entry = ENTRY_ADDRESS): Uint8Array {
  return code("f30f1efa", [
    ["48c702", size],
    ["48c707", load],
    ["48c706", entry],
  ]);
}

function code(prologue: string, stores: readonly (readonly [string, number])[]): Uint8Array {
  const parts = [hex(prologue)];
  for (const [instruction, constant] of stores) {
    const immediate = Buffer.alloc(4);
    immediate.writeUInt32LE(constant);
    parts.push(hex(instruction), immediate);
  }
  return Buffer.concat([...parts, hex("488b0500000000 5dc3")]);
}

/** A shared library of the shape of libkrunfw: three sections' worth of bytes and a dynamic symbol table. */
export function krunfwLibrary(parts: KrunfwParts = {}): Buffer {
  const kernel = parts.kernel ?? fakeKernel();
  const text = parts.code ?? unoptimizedCode(kernel.length);
  const names = Buffer.from("\0KERNEL_BUNDLE\0krunfw_get_kernel\0imported\0", "latin1");
  const textOffset = 0x200;
  const symbolsOffset = 0x400;
  const namesOffset = symbolsOffset + 4 * 24;
  const kernelOffset = 0x1000;
  const sectionsOffset = kernelOffset + kernel.length + 8;
  const file = Buffer.alloc(sectionsOffset + 3 * 64);

  file.write("\x7fELF\x02\x01\x01", "latin1");
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(parts.machine ?? 62, 18);
  u64(file, 32, [64, sectionsOffset]);
  for (const [at, value] of [
    [54, 56],
    [56, 2],
    [58, 64],
    [60, 3],
  ] as const)
    file.writeUInt16LE(value, at);
  segment(file, 64, 0, 0x1000);
  segment(file, 64 + 56, kernelOffset, kernel.length + 1);

  file.set(text, textOffset);
  symbol(file, symbolsOffset + 24, { name: 1, section: 1, value: kernelOffset, size: kernel.length + 1 });
  symbol(file, symbolsOffset + 48, { name: 15, section: 1, value: textOffset, size: text.length });
  symbol(file, symbolsOffset + 72, { name: 33, section: 0, value: 0, size: 0 });
  file.set(names, namesOffset);
  file.set(kernel, kernelOffset);

  section(file, sectionsOffset + 64, { type: 11, offset: symbolsOffset, size: 4 * 24, link: 2 });
  section(file, sectionsOffset + 128, { type: 3, offset: namesOffset, size: names.length, link: 0 });
  return file;
}

function segment(file: Buffer, at: number, offset: number, size: number): void {
  file.writeUInt32LE(1, at);
  u64(file, at + 8, [offset, offset, offset, size, size]);
}

function symbol(
  file: Buffer,
  at: number,
  fields: { name: number; section: number; value: number; size: number },
): void {
  file.writeUInt32LE(fields.name, at);
  file.writeUInt16LE(fields.section, at + 6);
  u64(file, at + 8, [fields.value, fields.size]);
}

function section(
  file: Buffer,
  at: number,
  fields: { type: number; offset: number; size: number; link: number },
): void {
  file.writeUInt32LE(fields.type, at + 4);
  u64(file, at + 24, [fields.offset, fields.size]);
  file.writeUInt32LE(fields.link, at + 40);
}

function u64(file: Buffer, at: number, values: readonly number[]): void {
  for (const [i, value] of values.entries()) file.writeBigUInt64LE(BigInt(value), at + 8 * i);
}

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}
