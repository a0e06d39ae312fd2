// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";
import { EM_AARCH64, EM_X86_64, parseElfLibrary } from "./elf.ts";

/** The kernel inside a libkrunfw, and where it wants to be in guest memory. */
export interface KernelBundle {
  readonly machine: "x64" | "arm64";
  /** A view into the library's bytes. */
  readonly image: Uint8Array;
  readonly loadAddress: number;
  readonly entryAddress: number;
}

/** Where libkrunfw's bin2cbundle.py puts every arm64 kernel. */
const ARM64_LOAD_ADDRESS = 0x8000_0000;

/**
 * Takes the kernel out of libkrunfw without loading the library.
 *
 * libkrunfw is generated C: an exported array `KERNEL_BUNDLE`, and a function `krunfw_get_kernel` which stores three
 * constants (load address, entry address, size) through its arguments. The array's extent is in the symbol
 * table; the constants are read from the function's store instructions, and the size among them must be that
 * of the array, which tells a function that was understood from one that was not.
 *
 * @throws MicrovmError `RUNTIME_CORRUPT`
 */
export function readKernelBundle(library: Uint8Array): KernelBundle {
  const elf = parseElfLibrary(library);
  const array = elf.symbol("KERNEL_BUNDLE");
  if (!array || array.length < 2) throw corrupt("exports no KERNEL_BUNDLE");
  // The array is a C string literal: one NUL more than the kernel.
  const image = array.subarray(0, array.length - 1);
  if (elf.machine === EM_AARCH64) {
    if (Buffer.from(image.subarray(56, 60)).toString("latin1") !== "ARMd")
      throw corrupt("not an arm64 Image");
    return { machine: "arm64", image, loadAddress: ARM64_LOAD_ADDRESS, entryAddress: ARM64_LOAD_ADDRESS };
  }
  if (elf.machine !== EM_X86_64) throw corrupt(`unsupported machine ${elf.machine}`);
  const code = elf.symbol("krunfw_get_kernel");
  if (!code) throw corrupt("exports no krunfw_get_kernel");
  return { machine: "x64", image, ...addresses(code, image.length) };
}

/** The entry point follows the load address, so neither the order of the stores nor the registers matter. */
function addresses(code: Uint8Array, size: number): { loadAddress: number; entryAddress: number } {
  const constants = storedConstants(code);
  const others = constants.filter((value) => value !== size);
  const [loadAddress, entryAddress] = others.sort((a, b) => a - b);
  if (
    constants.length !== 3 ||
    loadAddress === undefined ||
    entryAddress === undefined ||
    others.length !== 2 ||
    entryAddress >= loadAddress + size
  ) {
    throw corrupt("krunfw_get_kernel is not the function we know");
  }
  return { loadAddress, entryAddress };
}

/** Immediates of `movq $imm32, (reg)`: REX.W C7 /0 without displacement. Source: Intel SDM volume 2, MOV. */
function storedConstants(code: Uint8Array): number[] {
  const constants: number[] = [];
  const view = new DataView(code.buffer, code.byteOffset, Math.min(code.byteLength, 256));
  for (let at = 0; at + 7 <= view.byteLength && constants.length < 4; ) {
    const modrm = view.getUint8(at + 2);
    const plain = modrm < 8 && modrm !== 4 && modrm !== 5;
    if (view.getUint8(at) === 0x48 && view.getUint8(at + 1) === 0xc7 && plain) {
      constants.push(view.getInt32(at + 3, true));
      at += 7;
    } else at += 1;
  }
  return constants;
}

function corrupt(what: string): MicrovmError {
  return new MicrovmError("RUNTIME_CORRUPT", what, { stage: "runtime" });
}
