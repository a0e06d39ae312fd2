// SPDX-License-Identifier: Apache-2.0
import { isAbsolute } from "node:path";
import { MicrovmError } from "../errors.ts";
import type { VmmConfig } from "./backend.ts";

/** Less, and the kernel has no room for itself and its initramfs. */
const MIN_MEMORY_MIB = 64;
/** 16 TiB: what an x86-64 guest can address with certainty. */
const MAX_MEMORY_MIB = 16 << 20;
/** Room the kernel has for its command line (COMMAND_LINE_SIZE), less what backends and VMMs add. */
const MAX_CMDLINE_BYTES = 1024;
/** Beside a console, an agent port, an entropy source and a network link, libkrun on x86-64 has IRQs for so many. */
const MAX_DISKS = 5;

/**
 * Refuses a configuration that no VMM could start, by the option's name.
 *
 * @throws MicrovmError `INVALID_OPTION`
 */
export function checkVmmConfig(config: VmmConfig): void {
  require(/^[\x21-\x7e][\x20-\x7e]{0,63}$/.test(
    config.name,
  ), "name", "1 to 64 printable ASCII characters", config.name);
  whole("cpus", config.cpus, 1, 255);
  whole("memoryMiB", config.memoryMiB, MIN_MEMORY_MIB, MAX_MEMORY_MIB);
  file("kernel", config.kernel);
  file("initramfs", config.initramfs);
  const cmdline = config.cmdline ?? "";
  require(/^[\x20-\x7e]*$/.test(cmdline), "cmdline", "printable ASCII", cmdline);
  require(cmdline.length <=
    MAX_CMDLINE_BYTES, "cmdline", `at most ${MAX_CMDLINE_BYTES} bytes`, `${cmdline.length} bytes`);
  require(config.disks.length <= MAX_DISKS, "disks", `at most ${MAX_DISKS}`, config.disks.length);
  for (const [index, disk] of config.disks.entries()) {
    file(`disks[${index}].path`, disk.path);
    require(disk.format !== "vmdk" ||
      disk.readOnly, `disks[${index}]`, "read-only, as it is a vmdk", "writable");
  }
  if (!config.nic) return;
  const { mac, mtu } = config.nic;
  require(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac), "nic.mac", "like 02:00:5e:10:00:01", mac);
  require((Number.parseInt(mac, 16) & 1) === 0, "nic.mac", "a unicast address", mac);
  if (mtu !== undefined) whole("nic.mtu", mtu, 68, 65_535);
}

function file(name: string, path: string): void {
  require(isAbsolute(path) && !path.includes("\0"), name, "an absolute path", JSON.stringify(path));
}

function whole(name: string, value: number, least: number, most: number): void {
  require(Number.isInteger(value) &&
    value >= least &&
    value <= most, name, `a whole number from ${least} to ${most}`, value);
}

function require(ok: boolean, name: string, wanted: string, got: string | number): void {
  if (ok) return;
  throw new MicrovmError("INVALID_OPTION", `${name}: ${got}: must be ${wanted}`, { stage: "options" });
}
