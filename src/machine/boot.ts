// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import type { BootConfig, Channel } from "../agent/index.ts";
import { MicrovmError, toMicrovmError } from "../errors.ts";
import type { Backend, Vmm, VmmConfig, VmmExit } from "../hypervisor/index.ts";
import type { NetworkAttachment } from "../net/index.ts";
import type { ConsoleLog } from "./console.ts";
import type { WritableDisk } from "./disk.ts";
import type { MachineSpec } from "./spec.ts";
import type { Timeline } from "./timeline.ts";

/** What was made ready for the guest before it starts. */
export interface GuestParts {
  readonly network: NetworkAttachment | undefined;
  /** Absent: writes stay in the guest's memory. */
  readonly disk: WritableDisk | undefined;
}

/** Where the writable layer of a machine is. */
export const writableDiskOf = (spec: Pick<MachineSpec, "dir">): string => join(spec.dir, "upper.img");

/** Starts the VMM of a machine. */
export function spawnVmm(
  spec: MachineSpec,
  backend: Backend,
  parts: GuestParts,
  signal: AbortSignal,
): Promise<Vmm> {
  return backend.start(vmmConfig(spec, parts), signal);
}

/**
 * Races three things: the guest is up and its workload started, the VMM ends, time runs out. Whoever loses leaves its
 * evidence in the error: the stage that was reached, the end of the console, what the VMM said.
 *
 * @param start makes the first calls, at once: they wait in the guest until it is up, which saves a round trip
 */
export async function bootGuest(
  spec: MachineSpec,
  { vmm, console }: { readonly vmm: Vmm; readonly console: ConsoleLog },
  parts: GuestParts,
  timeline: Timeline,
  signal: AbortSignal,
  start: (channel: Channel, giveUp: AbortSignal) => Promise<void>,
): Promise<Channel> {
  const race = new AbortController();
  const deadline = setTimeout(() => race.abort(BOOT_TIMEOUT), spec.bootTimeoutMs);
  const abort = () => race.abort(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  let stage = "kernel";
  let opened: Channel | undefined;
  try {
    const spawned = performance.now();
    // Loaded while the kernel boots, not before.
    const { openAgent } = await import("../agent/index.ts");
    race.signal.throwIfAborted();
    const channel = openAgent(vmm.agent);
    opened = channel;
    const ready = channel.boot(bootConfig(spec, parts), {
      signal: race.signal,
      onStage: ({ name, beginNanos, endNanos }) => {
        stage = name;
        // The guest's clock starts with its kernel; what it says is placed relative to the stage's arrival.
        const now = performance.now();
        timeline.add(`guest ${name}`, now - Number(endNanos - beginNanos) / 1e6, now);
      },
    });
    const started = start(channel, race.signal);
    started.catch(() => {}); // looked at below, once the guest is up
    void channel.connected.then(
      () => {
        stage = "agent";
        timeline.add("kernel", spawned, performance.now());
      },
      () => {}, // `ready` fails with it
    );
    await orExit(vmm, ready);
    const up = performance.now();
    timeline.add("boot", spawned, up);
    stage = WORKLOAD;
    await orExit(vmm, started);
    timeline.add("workload", up, performance.now());
    return channel;
  } catch (error) {
    opened?.close();
    vmm.kill();
    const exit = await vmm.exited;
    await console.ended;
    throw bootFailure(error, { stage, exit, console: console.tail(), race: race.signal, spec });
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener("abort", abort);
  }
}

const WORKLOAD = "workload";
const BOOT_TIMEOUT = new DOMException("boot timed out", "TimeoutError");

class VmmEnded extends Error {}

/** The VMM's end wins over the channel's, which is only its consequence. */
function orExit<T>(vmm: Vmm, waited: Promise<T>): Promise<T> {
  const ended = vmm.exited.then((): never => {
    throw new VmmEnded();
  });
  return Promise.race([waited, ended]);
}

interface Evidence {
  readonly stage: string;
  readonly exit: VmmExit;
  readonly console: string;
  readonly race: AbortSignal;
  readonly spec: MachineSpec;
}

function bootFailure(error: unknown, { stage, exit, console, race, spec }: Evidence): MicrovmError {
  const evidence = {
    stage,
    ...(console && { console }),
    ...(exit.stderr && { stderr: exit.stderr }),
    ...(exit.reason && { reason: exit.reason }),
  };
  const fail = (code: "VMM_EXITED" | "BOOT_TIMEOUT", message: string, hint: string) =>
    new MicrovmError(code, `boot ${spec.name}: ${message}`, { stage: "boot", hint, evidence, cause: error });

  if (race.reason === BOOT_TIMEOUT) {
    return fail(
      "BOOT_TIMEOUT",
      `not ready after ${spec.bootTimeoutMs} ms, last stage: ${stage}`,
      "The end of the console says what it was doing; a slow host may need a longer bootTimeoutMs.",
    );
  }
  if (race.aborted) return toMicrovmError(error, "boot", race);
  // The guest is up; it was the command that could not be started.
  if (stage === WORKLOAD && error instanceof MicrovmError && error.code !== "CHANNEL_CLOSED") return error;
  // A failure the guest could still name says more than the VMM's end that follows it.
  if (error instanceof MicrovmError && error.code !== "CHANNEL_CLOSED") {
    return new MicrovmError(error.code, `boot ${spec.name}: ${error.message}`, {
      stage: "boot",
      hint: error.hint,
      evidence: { ...evidence, ...error.evidence },
      cause: error,
    });
  }
  return fail(
    "VMM_EXITED",
    `the VM ended during stage ${stage}${exit.reason ? ` (${exit.reason})` : ""}${lastLine(exit.stderr || console)}`,
    "The end of the console and the VMM's stderr are in the error's evidence; --json or `microvm inspect` shows them.",
  );
}

function lastLine(text: string): string {
  const line = text.trimEnd().split("\n").at(-1);
  return line ? `: ${line.slice(0, 300)}` : "";
}

function vmmConfig(spec: MachineSpec, { network, disk }: GuestParts): VmmConfig {
  return {
    name: spec.id,
    cpus: spec.cpus,
    memoryMiB: spec.memoryMiB,
    kernel: spec.kernel,
    initramfs: spec.initramfs,
    disks: [
      { path: spec.image.diskPath, format: "vmdk", readOnly: true },
      ...(disk
        ? [
            {
              path: writableDiskOf(spec),
              format: "raw" as const,
              readOnly: false,
              ephemeral: spec.autoRemove,
            },
          ]
        : []),
    ],
    nic: network && { mac: network.mac, mtu: network.guest.mtu },
  };
}

function bootConfig(spec: MachineSpec, { network, disk }: GuestParts): BootConfig {
  return {
    hostname: spec.hostname,
    root: {
      lowerDevice: "/dev/vda",
      upper: disk
        ? { case: "ext4", value: { device: "/dev/vdb", grow: disk.grow } }
        : { case: "tmpfs", value: {} },
      readOnly: spec.readOnly,
    },
    mounts: spec.tmpfs.map(({ target, options }) => ({
      type: "tmpfs",
      source: "tmpfs",
      target,
      options: [...options],
    })),
    ...(network && {
      network: {
        interface: "eth0",
        addresses: [...network.guest.addresses],
        gateways: [...network.guest.gateways],
        mtu: network.guest.mtu,
        nameservers: [...network.guest.nameservers],
        search: [...network.guest.search],
      },
    }),
    clockUnixNanos: BigInt(Date.now()) * 1_000_000n,
  };
}
