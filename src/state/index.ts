// SPDX-License-Identifier: Apache-2.0
export { type NewVm, type VmRecord, VmRegistry } from "./registry.ts";
