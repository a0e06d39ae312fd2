// SPDX-License-Identifier: Apache-2.0
//
// A process that owns a VM and waits to be killed: `node own-a-vm.ts KERNEL INITRAMFS CACHE`. Prints the VMM's identity.
import { qemu } from "../qemu/index.ts";

const [kernel = "", initramfs = "", cacheDir = ""] = process.argv.slice(2);
const vmm = await qemu({ cacheDir }).start({
  name: "owned",
  cpus: 1,
  memoryMiB: 128,
  kernel,
  initramfs,
  disks: [],
});
vmm.console.resume();
process.stdout.write(`${JSON.stringify(vmm.identity)}\n`);
await vmm.exited;
