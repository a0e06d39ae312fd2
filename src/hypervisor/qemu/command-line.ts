// SPDX-License-Identifier: Apache-2.0
import type { Acceleration, VmmConfig, VmmDisk } from "../backend.ts";

/** Inherited file descriptors, by number in the VMM: each one end of a socketpair. */
export const FD = { agent: 3, console: 4, qmp: 5, nic: 6 } as const;

export interface QemuTarget {
  readonly arch: "x64" | "arm64";
  readonly acceleration: Acceleration;
  /** Whether this QEMU was built with seccomp. */
  readonly sandbox: boolean;
  /** Frequency of the host's time stamp counter, where it was measured: emulated x86-64 CPUs show it as theirs. */
  readonly tscKHz?: number | undefined;
}

/**
 * The arguments of a QEMU that runs `config`: what the guest needs and not one device more.
 *
 * Whatever holds a path goes either as JSON or as an argument of its own that QEMU does not take apart, so that no
 * character in it means anything; the rest is generated here.
 */
export function qemuArguments(config: VmmConfig, target: QemuTarget): string[] {
  return [
    ...["-name", `guest=${optionValue(config.name)}`],
    ...["-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none"],
    ...(target.sandbox
      ? ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
      : []),
    ...["-machine", machine(target)],
    ...["-accel", accelerator(target)],
    ...["-cpu", cpuModel(target)],
    ...["-smp", `cpus=${config.cpus},maxcpus=${config.cpus}`],
    ...["-m", `size=${config.memoryMiB}M`],
    // virtio 1.0 transports; the default is the draft from before.
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...["-kernel", config.kernel],
    ...["-initrd", config.initramfs],
    ...["-append", kernelCommandLine(config, target)],
    ...["-chardev", `socket,id=qmp,fd=${FD.qmp}`],
    ...["-mon", "chardev=qmp,mode=control"],
    ...devices(config).flatMap((device) => ["-device", JSON.stringify(device)]),
    ...["-chardev", `socket,id=console,fd=${FD.console}`],
    ...["-chardev", `socket,id=agent,fd=${FD.agent}`],
    ...config.disks.flatMap((disk, index) => ["-blockdev", JSON.stringify(blockdev(disk, diskNode(index)))]),
    ...(config.nic ? ["-netdev", `stream,id=nic,server=off,addr.type=fd,addr.str=${FD.nic}`] : []),
  ];
}

function machine(target: QemuTarget): string {
  // The x86 microvm machine with ACPI on has no console here, and its serial port is of no use to us.
  if (target.arch === "x64") return "microvm,acpi=off,isa-serial=off,x-option-roms=off";
  return "virt,gic-version=max,acpi=off,highmem=on";
}

function accelerator(target: QemuTarget): string {
  // Room for translated code, in MiB: as much as large programs fill, a quarter of what QEMU would let a guest take.
  return target.acceleration === "tcg" ? "tcg,thread=multi,tb-size=256" : target.acceleration;
}

function cpuModel(target: QemuTarget): string {
  if (target.acceleration !== "tcg") return "host";
  // Setting up nested virtualisation takes 70 ms, and emulated twice over nobody would wait for it.
  return target.arch === "x64" ? "max,svm=off" : "max";
}

/**
 * What every guest is booted with, then what this one asks for: of two contradicting parameters the later wins.
 * Source: Linux, Documentation/admin-guide/kernel-parameters.txt.
 */
export function kernelCommandLine(config: VmmConfig, target: QemuTarget): string {
  return [
    "console=hvc0 panic=-1 loglevel=5",
    // SELinux without a policy labels nothing and still is asked about everything.
    "selinux=0",
    // Devices that appear when somebody asks for them: losetup and ip make their own.
    "loop.max_loop=0 dummy.numdummies=0",
    ...(target.arch === "x64" ? x64Parameters(config, target) : []),
    ...(config.cmdline ? [config.cmdline] : []),
  ].join(" ");
}

function x64Parameters(config: VmmConfig, target: QemuTarget): string[] {
  const parameters = [
    // There is no keyboard controller to reset the machine, and asking it takes over a second.
    "reboot=t",
    // The RTC's interrupt is the fifth virtio device's. /dev/cpu/*/cpuid nobody needs; the jitter entropy source tests
    // itself for 60 ms of emulated time and is not needed where there is virtio-rng.
    "initcall_blacklist=cmos_init,cpuid_init,jent_mod_init",
  ];
  if (target.acceleration !== "tcg") return parameters;
  parameters.push(
    // An emulated CPU speculates about nothing.
    "mitigations=off",
    // All emulated CPUs read the host's counter; without this a second CPU means a clock that ticks 250 times a second.
    "tsc=reliable",
    // The interrupt controller is known to work; on a busy machine the test for it fails, which is fatal.
    "no_timer_check",
    // Patching code is what an emulator does worst, and a lock prefix costs it nothing.
    "noreplace-smp",
  );
  if (target.tscKHz !== undefined) parameters.push(`tsc_early_khz=${target.tscKHz}`);
  // One CPU does as well with the timer it has booted on, and the other takes 200 ms to calibrate.
  if (config.cpus === 1) parameters.push("nolapic_timer");
  return parameters;
}

interface Device {
  readonly driver: string;
  readonly [property: string]: string | number | boolean;
}

function devices(config: VmmConfig): Device[] {
  const list: Device[] = [
    { driver: "virtio-serial-device", id: "serial", max_ports: 2 },
    { driver: "virtconsole", bus: "serial.0", nr: 0, chardev: "console" },
    { driver: "virtserialport", bus: "serial.0", nr: 1, chardev: "agent", name: "agent" },
    { driver: "virtio-rng-device" },
  ];
  for (const [index, disk] of config.disks.entries()) {
    list.push({
      driver: "virtio-blk-device",
      drive: diskNode(index),
      serial: `disk${index}`,
      // The guest is told; by default a full disk of the host's pauses it, and nobody would continue it.
      ...(disk.readOnly ? {} : { werror: "report", rerror: "report" }),
    });
  }
  if (config.nic) {
    const { mac, mtu } = config.nic;
    list.push({
      driver: "virtio-net-device",
      netdev: "nic",
      mac,
      ...(mtu === undefined ? {} : { host_mtu: mtu }),
    });
  }
  return list;
}

function diskNode(index: number): string {
  return `disk${index}`;
}

type Json = { readonly [key: string]: string | boolean | Json };

function blockdev(disk: VmmDisk, node: string): Json {
  // A disk that is deleted with its VM is never synced: nobody will read it after a crash.
  const cache: Json = { direct: false, "no-flush": disk.ephemeral === true };
  const file: Json = { driver: "file", filename: disk.path, "read-only": disk.readOnly, cache };
  return {
    driver: disk.format,
    "node-name": node,
    "read-only": disk.readOnly,
    cache,
    ...(disk.readOnly
      ? { file }
      : { discard: "unmap", "detect-zeroes": "unmap", file: { ...file, discard: "unmap" } }),
  };
}

/** QEMU's option syntax: a comma inside a value is written twice. */
function optionValue(text: string): string {
  return text.replaceAll(",", ",,");
}
