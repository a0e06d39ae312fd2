// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeCpio } from "../../../scripts/cpio.ts";

/** Machine code of the least guests a test can want, x86-64, position independent, no library. */
const PROGRAMS = {
  /** reboot(RESTART): what powers a microVM off. */
  restart: "bfaddee1fe be69191228 ba67452301 b8a9000000 0f05 ebfe",
  /** pause(), for ever. */
  sleep: "b822000000 0f05 ebf7",
  /** Returns from /init: the kernel panics. */
  exit: "31ff b83c000000 0f05",
  /** Copies /dev/kmsg to the console, then restarts. */
  log:
    "488d3d4c000000be00080000b8020000000f0589c389df488db42400e0ffffba0020000031c00f05" +
    "4885c07e1089c2bf01000000b8010000000f05ebd8bfaddee1febe69191228ba67452301b8a90000" +
    "000f052f6465762f6b6d736700",
  /** Mounts a devtmpfs, writes its own page to /dev/vda (O_DIRECT) until that fails, then restarts. */
  fill:
    "488d3d60000000488d355d000000488d155b0000004531d24531c0b8a50000000f05488d3d500000" +
    "00be01400000b8020000000f0589c389dfbe00004000ba00100000b8010000000f054885c07fe8bf" +
    "addee1febe69191228ba67452301b8a90000000f05ebfe646576002f64657600646576746d706673" +
    "002f6465762f76646100",
} as const;

/** Writes an initramfs whose /init does one thing, and returns its path. */
export function guestInitramfs(dir: string, program: keyof typeof PROGRAMS): string {
  const path = join(dir, `${program}.cpio`);
  const init = staticElf(Buffer.from(PROGRAMS[program].replaceAll(" ", ""), "hex"));
  const cpio = writeCpio([
    { type: "directory", path: "dev", mode: 0o755 },
    { type: "character", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "character", path: "dev/kmsg", mode: 0o600, major: 1, minor: 11 },
    { type: "file", path: "init", mode: 0o755, data: init },
  ]);
  writeFileSync(path, cpio);
  return path;
}

/** An ELF64 executable of one segment that starts with its first byte of code. */
function staticElf(code: Uint8Array): Uint8Array {
  const base = 0x40_0000n;
  const header = Buffer.alloc(120);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(62, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(base + 120n, 24);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64);
  header.writeUInt32LE(5, 68);
  header.writeBigUInt64LE(base, 80);
  header.writeBigUInt64LE(base, 88);
  header.writeBigUInt64LE(BigInt(120 + code.length), 96);
  header.writeBigUInt64LE(BigInt(120 + code.length), 104);
  header.writeBigUInt64LE(4096n, 112);
  return Buffer.concat([header, code]);
}
