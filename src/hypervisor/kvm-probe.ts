// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants } from "node:fs";
import { messageOf } from "../errors.ts";

/** Whether KVM runs guests here, with the reason in words. */
export interface KvmVerdict {
  readonly ok: boolean;
  readonly reason: string;
}

/** Tries KVM. */
export async function probeKvm(_qemu: string, _signal?: AbortSignal): Promise<KvmVerdict> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    return { ok: false, reason: messageOf(error) };
  }
  return { ok: false, reason: "/dev/kvm cannot run an ordinary kernel" };
}
