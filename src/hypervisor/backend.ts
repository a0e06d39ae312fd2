// SPDX-License-Identifier: Apache-2.0
import type { Duplex, Readable } from "node:stream";
import type { ProcessIdentity } from "../internal/process.ts";

/** What executes the guest's instructions: the CPU itself (Linux KVM, macOS HVF) or an emulator (QEMU's TCG). */
export type Acceleration = "kvm" | "hvf" | "tcg";

/** Whether a backend can run a VM here and now, with the reason in words when it cannot. */
export type Availability =
  | {
      readonly ok: true;
      /** Of the VMM, as it reports it. */
      readonly version: string;
      readonly acceleration: Acceleration;
      /** One plain line for the user when it works but not well: how slow, and why. */
      readonly warning?: string | undefined;
    }
  | {
      readonly ok: false;
      readonly reason: string;
      /** What to do about it, as one sentence. */
      readonly hint: string;
    };

/**
 * A way to run a virtual machine. Implementations: `qemu()`.
 *
 * Options of one backend live on its factory, never in `VmmConfig`.
 */
export interface Backend {
  readonly name: string;
  /** Tries, does not guess: a `true` means that guest code was seen running. Remembered until the machine reboots. */
  availability(signal?: AbortSignal): Promise<Availability>;
  /**
   * Starts the VMM process. Resolves when it is running, not when the guest is: what the guest does is seen on
   * `Vmm.agent`, `Vmm.console` and `Vmm.exited`.
   *
   * @param signal - aborts the start, and nothing after it has resolved.
   * @throws MicrovmError `INVALID_OPTION`, `MISSING_DEPENDENCY`, `BACKEND_UNAVAILABLE`, `VMM_FAILED`, `ABORTED`.
   */
  start(config: VmmConfig, signal?: AbortSignal): Promise<Vmm>;
}

/** One virtio-blk disk. The guest sees the disks in the order of `VmmConfig.disks`, as /dev/vda, vdb, … */
export interface VmmDisk {
  readonly path: string;
  readonly format: "vmdk" | "raw";
  /** A read-only disk may be shared by any number of VMs; a writable one belongs to one VM. */
  readonly readOnly: boolean;
  /** The disk is deleted with the VM, so what the guest flushes need not reach the medium. Default: false. */
  readonly ephemeral?: boolean | undefined;
}

/** One virtio-net device, its link a stream of Ethernet frames, each behind a 4-byte big-endian length. */
export interface VmmNic {
  /** Lower-case, colon separated. */
  readonly mac: string;
  /** 68 to 65535 bytes; offered to the guest where the VMM can. */
  readonly mtu?: number | undefined;
}

/** Everything a VMM needs to start a guest; the same for every backend. */
export interface VmmConfig {
  /** For the process list and error messages: printable ASCII, at most 64 characters. */
  readonly name: string;
  /** 1 to 255. */
  readonly cpus: number;
  /** At least 64. */
  readonly memoryMiB: number;
  /** The kernel that `locateRuntime` returned. */
  readonly kernel: string;
  /** The guest agent's initramfs. */
  readonly initramfs: string;
  /**
   * Kernel parameters besides those which the backend adds itself (console, reboot, panic, clock). No secrets: the
   * guest shows them to everyone in /proc/cmdline, the host in its process list.
   */
  readonly cmdline?: string | undefined;
  readonly disks: readonly VmmDisk[];
  readonly nic?: VmmNic | undefined;
}

/** Why a VMM ended; absent when nobody told us (it crashed, or was killed). */
export type VmmExitReason = "guest-shutdown" | "guest-reset" | "guest-panic" | "host-quit";

/** How a VMM ended. */
export interface VmmExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly reason?: VmmExitReason | undefined;
  /** The last 8 KiB of what the VMM said on stderr. */
  readonly stderr: string;
}

/** A running VMM process. It dies with the process (to be exact: the thread) that started it. */
export interface Vmm {
  readonly identity: ProcessIdentity;
  readonly acceleration: Acceleration;
  /** The virtio-serial port named `agent`, with flow control in both directions. */
  readonly agent: Duplex;
  /**
   * What the guest prints on its console. Always read it: a guest whose console is full stands still. It ends by itself
   * when the VMM has; the last words may come a little after `exited`.
   */
  readonly console: Readable;
  /** Frames of the virtio-net device; there exactly when the config has a `nic`. */
  readonly nic?: Duplex | undefined;
  /** Resolves, never rejects, once the process is gone. */
  readonly exited: Promise<VmmExit>;
  /** Ends the VMM as if the power was cut, but lets it close its disks first. Resolves when it has ended. */
  quit(): Promise<void>;
  /** SIGKILL, to this very process and no other that later got its pid. */
  kill(): void;
}
