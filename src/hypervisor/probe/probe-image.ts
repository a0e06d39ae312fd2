// SPDX-License-Identifier: Apache-2.0
import { PROBE_GUEST } from "./guest.ts";

const LOAD_ADDRESS = 0x10_0000;
/** Interrupt table and stack behind the code. */
const ZEROED_BYTES = 16_384;
const CODE_OFFSET = 256;

/** The probe's guest as an ELF64 file that VMMs boot by the PVH protocol. Source: Xen, docs/misc/pvh.pandoc. */
export function probeImage(): Uint8Array {
  const file = Buffer.alloc(CODE_OFFSET + PROBE_GUEST.length);
  file.write("\x7fELF\x02\x01\x01", "latin1");
  file.writeUInt16LE(2, 16); // ET_EXEC
  file.writeUInt16LE(62, 18); // EM_X86_64
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(LOAD_ADDRESS), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const sizes = (at: number, values: readonly number[]): void => {
    for (const [i, value] of values.entries()) file.writeBigUInt64LE(BigInt(value), at + 8 * i);
  };
  file.writeUInt32LE(1, 64); // PT_LOAD
  file.writeUInt32LE(7, 68);
  const size = PROBE_GUEST.length;
  sizes(72, [CODE_OFFSET, LOAD_ADDRESS, LOAD_ADDRESS, size, size + ZEROED_BYTES, 16]);
  file.writeUInt32LE(4, 120); // PT_NOTE
  file.writeUInt32LE(4, 124);
  sizes(128, [176, 0, 0, 20, 20, 4]);
  file.writeUInt32LE(4, 176);
  file.writeUInt32LE(4, 180);
  file.writeUInt32LE(18, 184); // XEN_ELFNOTE_PHYS32_ENTRY
  file.write("Xen\0", 188, "latin1");
  file.writeUInt32LE(LOAD_ADDRESS, 192);
  file.set(PROBE_GUEST, CODE_OFFSET);
  return file;
}
