// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";

/** Just enough of ELF64 to find an exported symbol's bytes. Sources: System V gABI chapters 4 and 5. */

export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;

const MAX_SECTIONS = 1024;
const MAX_SEGMENTS = 256;
const MAX_SYMBOLS = 65_536;
const SHT_DYNSYM = 11;
const PT_LOAD = 1;

interface Segment {
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
}

/** A shared library held in memory; nothing in it is believed unchecked. */
export interface ElfLibrary {
  readonly machine: number;
  /** The bytes of an exported symbol, as a view; undefined if the library does not export it. */
  symbol(name: string): Uint8Array | undefined;
}

/**
 * Parses a 64-bit little-endian ELF shared library.
 *
 * @throws MicrovmError `RUNTIME_CORRUPT` for anything else, or for headers that point outside the file.
 */
export function parseElfLibrary(bytes: Uint8Array): ElfLibrary {
  const file = new Reader(bytes);
  const magic = file.u32(0);
  if (magic !== 0x464c457f || file.u8(4) !== 2 || file.u8(5) !== 1) throw corrupt("not a 64-bit ELF file");
  if (file.u16(16) !== 3) throw corrupt("not a shared library");
  const machine = file.u16(18);
  const segments = readSegments(file);
  const symbols = readDynamicSymbols(file, segments);
  return {
    machine,
    symbol(name) {
      const range = symbols.get(name);
      return range && bytes.subarray(range.offset, range.offset + range.size);
    },
  };
}

function readSegments(file: Reader): Segment[] {
  const table = file.u64(32);
  const count = file.u16(56);
  if (file.u16(54) !== 56 || count > MAX_SEGMENTS) throw corrupt("bad program header table");
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) {
    const at = table + i * 56;
    if (file.u32(at) !== PT_LOAD) continue;
    segments.push({ offset: file.u64(at + 8), address: file.u64(at + 16), fileSize: file.u64(at + 32) });
  }
  return segments;
}

function readDynamicSymbols(
  file: Reader,
  segments: readonly Segment[],
): Map<string, { offset: number; size: number }> {
  const table = file.u64(40);
  const count = file.u16(60);
  if (file.u16(58) !== 64 || count > MAX_SECTIONS) throw corrupt("bad section header table");
  for (let i = 0; i < count; i++) {
    const at = table + i * 64;
    if (file.u32(at + 4) !== SHT_DYNSYM) continue;
    const link = file.u32(at + 40);
    if (link >= count) throw corrupt("symbol names are in no section");
    const strings = table + link * 64;
    return readSymbols(file, segments, {
      offset: file.u64(at + 24),
      size: file.u64(at + 32),
      namesOffset: file.u64(strings + 24),
      namesSize: file.u64(strings + 32),
    });
  }
  throw corrupt("no dynamic symbols");
}

function readSymbols(
  file: Reader,
  segments: readonly Segment[],
  table: { offset: number; size: number; namesOffset: number; namesSize: number },
): Map<string, { offset: number; size: number }> {
  const count = Math.floor(table.size / 24);
  if (count > MAX_SYMBOLS) throw corrupt("too many symbols");
  const names = file.slice(table.namesOffset, table.namesSize);
  const found = new Map<string, { offset: number; size: number }>();
  for (let i = 1; i < count; i++) {
    const at = table.offset + i * 24;
    const nameStart = file.u32(at);
    const section = file.u16(at + 6);
    if (section === 0) continue; // imported
    const nameEnd = names.indexOf(0, nameStart);
    if (nameStart >= names.length || nameEnd < 0 || nameEnd - nameStart > 256)
      throw corrupt("bad symbol name");
    const address = file.u64(at + 8);
    const size = file.u64(at + 16);
    const segment = segments.find(
      (s) =>
        address >= s.address &&
        address - s.address <= s.fileSize &&
        size <= s.fileSize - (address - s.address),
    );
    if (!segment) continue; // bss, or no bytes of its own
    const offset = segment.offset + (address - segment.address);
    file.slice(offset, size);
    found.set(Buffer.from(names.subarray(nameStart, nameEnd)).toString("latin1"), { offset, size });
  }
  return found;
}

/** Bounds-checked little-endian reads. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(at: number): number {
    return this.#view.getUint8(this.#check(at, 1));
  }

  u16(at: number): number {
    return this.#view.getUint16(this.#check(at, 2), true);
  }

  u32(at: number): number {
    return this.#view.getUint32(this.#check(at, 4), true);
  }

  /** Sizes and offsets beyond 2^53 are outside any file, so they need not be exact. */
  u64(at: number): number {
    return Number(this.#view.getBigUint64(this.#check(at, 8), true));
  }

  slice(offset: number, size: number): Uint8Array {
    return this.#bytes.subarray(this.#check(offset, size), offset + size);
  }

  #check(offset: number, size: number): number {
    if (offset + size > this.#bytes.length) throw corrupt("a header points outside the file");
    return offset;
  }
}

function corrupt(what: string): MicrovmError {
  return new MicrovmError("RUNTIME_CORRUPT", what, { stage: "runtime" });
}
