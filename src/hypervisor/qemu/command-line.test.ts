// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { VmmConfig } from "../backend.ts";
import { type QemuTarget, qemuArguments } from "./command-line.ts";

const config: VmmConfig = {
  name: "test",
  cpus: 2,
  memoryMiB: 512,
  kernel: "/k/kernel",
  initramfs: "/k/initramfs",
  disks: [],
};
const tcg: QemuTarget = { arch: "x64", acceleration: "tcg", sandbox: true };
const kvm: QemuTarget = { ...tcg, acceleration: "kvm" };
const arm: QemuTarget = { arch: "arm64", acceleration: "kvm", sandbox: false };

/** All values that an option is given. */
function valuesOf(option: string, args: readonly string[]): string[] {
  return args.flatMap((arg, at) => (arg === option ? [args[at + 1] ?? ""] : []));
}

function only(option: string, args: readonly string[]): string {
  const values = valuesOf(option, args);
  assert.equal(values.length, 1, `${option} ${values.join(" ")}`);
  return values[0] ?? "";
}

test("nothing comes from QEMU's defaults or a configuration file, and a reset ends the VMM", () => {
  const args = qemuArguments(config, tcg);
  for (const flag of ["-nodefaults", "-no-user-config", "-no-reboot"]) assert.ok(args.includes(flag), flag);
  assert.equal(only("-display", args), "none");
});

const machines: readonly (readonly [string, QemuTarget, string, string, string])[] = [
  [
    "x86-64 emulated",
    tcg,
    "microvm,acpi=off,isa-serial=off,x-option-roms=off",
    "tcg,thread=multi,tb-size=256",
    "max,svm=off",
  ],
  ["x86-64 on KVM", kvm, "microvm,acpi=off,isa-serial=off,x-option-roms=off", "kvm", "host"],
  ["arm64 on KVM", arm, "virt,gic-version=max,acpi=off,highmem=on", "kvm", "host"],
  [
    "arm64 emulated",
    { ...arm, acceleration: "tcg" },
    "virt,gic-version=max,acpi=off,highmem=on",
    "tcg,thread=multi,tb-size=256",
    "max",
  ],
];
for (const [what, target, machine, accel, cpu] of machines) {
  test(`machine, accelerator and CPU: ${what}`, () => {
    const args = qemuArguments(config, target);
    assert.equal(only("-machine", args), machine);
    assert.equal(only("-accel", args), accel);
    assert.equal(only("-cpu", args), cpu);
    assert.equal(only("-smp", args), "cpus=2,maxcpus=2");
    assert.equal(only("-m", args), "size=512M");
  });
}

const parameters: readonly (readonly [string, QemuTarget, Partial<VmmConfig>, RegExp[], RegExp[]])[] = [
  [
    "every guest",
    kvm,
    {},
    [/^console=hvc0 panic=-1 loglevel=5 /, / reboot=t /],
    [/mitigations=off/, /tsc=/, /nolapic/],
  ],
  [
    "emulated",
    { ...tcg, tscKHz: 2_596_142 },
    {},
    [/ mitigations=off /, / tsc=reliable /, / tsc_early_khz=2596142$/],
    [/nolapic/],
  ],
  ["emulated, rate unknown", tcg, {}, [/tsc=reliable/], [/tsc_early_khz/]],
  ["emulated, one CPU", tcg, { cpus: 1 }, [/ nolapic_timer$/], []],
  ["arm64", arm, {}, [/^console=hvc0 /], [/reboot=/, /tsc/]],
  ["the caller's last, so that they win", tcg, { cmdline: "loglevel=7" }, [/loglevel=5 .* loglevel=7$/], []],
];
for (const [what, target, changes, wanted, unwanted] of parameters) {
  test(`kernel parameters: ${what}`, () => {
    const line = only("-append", qemuArguments({ ...config, ...changes }, target));
    for (const pattern of wanted) assert.match(line, pattern);
    for (const pattern of unwanted) assert.doesNotMatch(line, pattern);
  });
}

test("the sandbox is asked for exactly where it exists", () => {
  assert.match(only("-sandbox", qemuArguments(config, tcg)), /^on,.*spawn=deny/);
  assert.deepEqual(valuesOf("-sandbox", qemuArguments(config, arm)), []);
});

test("disks appear in order, read-only and writable, with any character in their paths", () => {
  const args = qemuArguments(
    {
      ...config,
      disks: [
        { path: '/a b,c=d"e/image.vmdk', format: "vmdk", readOnly: true },
        { path: "/data/upper.raw", format: "raw", readOnly: false, ephemeral: true },
        { path: "/data/kept.raw", format: "raw", readOnly: false },
      ],
    },
    tcg,
  );
  const nodes = valuesOf("-blockdev", args).map((value) => JSON.parse(value));
  const cache = { direct: false, "no-flush": false };
  assert.deepEqual(nodes[0], {
    driver: "vmdk",
    "node-name": "disk0",
    "read-only": true,
    cache,
    file: { driver: "file", filename: '/a b,c=d"e/image.vmdk', "read-only": true, cache },
  });
  assert.equal(nodes[1].file.discard, "unmap");
  assert.equal(nodes[1]["detect-zeroes"], "unmap");
  assert.equal(nodes[1].cache["no-flush"], true);
  assert.equal(nodes[2].cache["no-flush"], false);
  const drives = valuesOf("-device", args)
    .map((value) => JSON.parse(value))
    .filter((device) => device.driver === "virtio-blk-device");
  assert.deepEqual(
    drives.map((device) => device.drive),
    ["disk0", "disk1", "disk2"],
  );
  // By default a full disk of the host's pauses the guest, and nobody continues it.
  assert.deepEqual(
    drives.map((device) => [device.werror, device.rerror]),
    [
      [undefined, undefined],
      ["report", "report"],
      ["report", "report"],
    ],
  );
});

test("kernel and initramfs are arguments of their own, whatever their names", () => {
  const args = qemuArguments({ ...config, kernel: "/k, =1/k", initramfs: "/i,j/i" }, tcg);
  assert.equal(only("-kernel", args), "/k, =1/k");
  assert.equal(only("-initrd", args), "/i,j/i");
});

test("a comma in the name stays in the name", () => {
  assert.equal(
    only("-name", qemuArguments({ ...config, name: "a,debug-threads=on" }, tcg)),
    "guest=a,,debug-threads=on",
  );
});

test("there is a network device exactly when there is a link for it", () => {
  assert.deepEqual(valuesOf("-netdev", qemuArguments(config, tcg)), []);
  const args = qemuArguments({ ...config, nic: { mac: "02:4b:72:75:6e:00", mtu: 65520 } }, tcg);
  assert.equal(only("-netdev", args), "stream,id=nic,server=off,addr.type=fd,addr.str=6");
  const device = valuesOf("-device", args)
    .map((value) => JSON.parse(value))
    .at(-1);
  assert.deepEqual(device, {
    driver: "virtio-net-device",
    netdev: "nic",
    mac: "02:4b:72:75:6e:00",
    host_mtu: 65520,
  });
});

test("every channel is an inherited descriptor: nothing listens, nothing has a path", () => {
  const args = qemuArguments({ ...config, nic: { mac: "02:4b:72:75:6e:00" } }, tcg);
  for (const chardev of valuesOf("-chardev", args)) assert.match(chardev, /^socket,id=\w+,fd=\d$/);
});
