// SPDX-License-Identifier: Apache-2.0
import type { KernelBundle } from "./kernel-bundle.ts";

const PAGE = 4096;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/**
 * A kernel as files VMMs boot from, in parts to be written one after another.
 *
 * arm64: the Image as it is. x86-64: a minimal ELF64 with the kernel as its one segment and the note by which
 * VMMs recognise PVH boot. libkrunfw's kernel starts with its 32-bit PVH entry point, so the note's value is the load
 * address; `e_entry` is the 64-bit one. Sources: System V gABI chapter 5, Xen's docs/misc/pvh.pandoc.
 */
export function kernelFileParts(kernel: KernelBundle): Uint8Array[] {
  if (kernel.machine === "arm64") return [kernel.image];
  return [pvhHeader(kernel), kernel.image];
}

function pvhHeader(kernel: KernelBundle): Uint8Array {
  const header = Buffer.alloc(PAGE);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(2, 16); // ET_EXEC
  header.writeUInt16LE(62, 18); // EM_X86_64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(kernel.entryAddress), 24);
  header.writeBigUInt64LE(64n, 32); // program headers follow
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(2, 56);

  const load = 64;
  header.writeUInt32LE(1, load); // PT_LOAD
  header.writeUInt32LE(7, load + 4); // read, write, execute
  header.writeBigUInt64LE(BigInt(PAGE), load + 8);
  header.writeBigUInt64LE(BigInt(kernel.loadAddress), load + 16);
  header.writeBigUInt64LE(BigInt(kernel.loadAddress), load + 24);
  header.writeBigUInt64LE(BigInt(kernel.image.length), load + 32);
  header.writeBigUInt64LE(BigInt(kernel.image.length), load + 40);
  header.writeBigUInt64LE(BigInt(PAGE), load + 48);

  const note = load + 56;
  const noteData = note + 56;
  const noteSize = 20;
  header.writeUInt32LE(4, note); // PT_NOTE
  header.writeUInt32LE(4, note + 4);
  header.writeBigUInt64LE(BigInt(noteData), note + 8);
  header.writeBigUInt64LE(BigInt(noteSize), note + 32);
  header.writeBigUInt64LE(BigInt(noteSize), note + 40);
  header.writeBigUInt64LE(4n, note + 48);

  header.writeUInt32LE(4, noteData); // name size
  header.writeUInt32LE(4, noteData + 4); // value size
  header.writeUInt32LE(XEN_ELFNOTE_PHYS32_ENTRY, noteData + 8);
  header.write("Xen\0", noteData + 12, "latin1");
  header.writeUInt32LE(kernel.loadAddress, noteData + 16);
  return header;
}
