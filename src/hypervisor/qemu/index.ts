// SPDX-License-Identifier: Apache-2.0
export { type QemuOptions, qemu } from "./qemu.ts";
