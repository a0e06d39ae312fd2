// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isErrno, messageOf } from "../../errors.ts";
import { type ClockSample, clockRateKHz } from "./clock-rate.ts";
import { probeImage } from "./probe-image.ts";
import { type ProbeRun, runProbe } from "./run-probe.ts";

/** What guest code was seen doing on this machine. */
export interface ProbeVerdict {
  /** Whether KVM runs guests, and if not why, in words; and whether that may be otherwise without a trace on the file. */
  readonly kvm: { readonly ok: boolean; readonly reason: string; readonly mayPass?: boolean };
  /** Rate of the time stamp counter that emulated CPUs show, if it could be measured. */
  readonly tscKHz?: number | undefined;
}

/** KVM need not be faster than the emulator on a program this short, but a working one is not five times slower. */
const PATIENCE = 5;
const LEAST_PATIENCE_MS = 500;
/** EACCES, EBUSY, ENODEV, ENOENT, ENOMEM, ENXIO in QEMU's words: somebody else's VM, or a module that is not loaded. */
const PASSING = /permission denied|resource busy|no such (?:device|file)|cannot allocate memory/i;
/** For a QEMU that says nothing at all. */
const LIMIT_MS = 10_000;
/** A quarter of a second tells the counter's rate to some 0.01 %; on a busy machine it takes longer. */
const SAMPLE_MS = { least: 250, most: 1500 } as const;

/**
 * Runs a small guest program on KVM and, beside it, on the emulator. Some machines have a /dev/kvm that opens, creates
 * VMs and runs them one instruction at a time, in software: nothing but running code tells it from a real one, and the
 * emulator is the measure of what is too slow, on a fast machine as on a slow or busy one.
 *
 * On arm64 there is no such program yet; a /dev/kvm that opens is believed.
 *
 * @param binary - a qemu-system of this machine's own architecture.
 */
export async function probeAcceleration(binary: string, signal?: AbortSignal): Promise<ProbeVerdict> {
  const refusal = openRefusal();
  if (process.arch !== "x64") return { kvm: refusal ?? { ok: true, reason: "" } };
  const dir = mkdtempSync(join(tmpdir(), "microvm-probe-"));
  const kvmLimit = new AbortController();
  const onAbort = (): void => kvmLimit.abort();
  signal?.addEventListener("abort", onAbort, { once: true });
  let timer: NodeJS.Timeout | undefined;
  try {
    const image = join(dir, "guest");
    writeFileSync(image, probeImage());
    const kvm = refusal
      ? undefined
      : runProbe(binary, image, ["-accel", "kvm", "-cpu", "host"], kvmLimit.signal);
    const tcgLimit = AbortSignal.any([AbortSignal.timeout(LIMIT_MS), ...(signal ? [signal] : [])]);
    const started = performance.now();
    const tcg = await runProbe(binary, image, ["-accel", "tcg", "-cpu", "max"], tcgLimit, clockIsKnown);
    const patience = Math.max(LEAST_PATIENCE_MS, PATIENCE * tcg.elapsedMs) - (performance.now() - started);
    timer = setTimeout(onAbort, Math.max(0, patience));
    const run = await kvm;
    signal?.throwIfAborted();
    return { kvm: refusal ?? verdict(run, tcg), tscKHz: clockRateKHz(tcg.samples) };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    rmSync(dir, { recursive: true, force: true });
  }
}

function clockIsKnown(samples: readonly ClockSample[]): boolean {
  const [first, last] = [samples[0], samples.at(-1)];
  const sampledMs = first && last ? last.hostMs - first.hostMs : 0;
  return sampledMs >= SAMPLE_MS.most || (sampledMs >= SAMPLE_MS.least && clockRateKHz(samples) !== undefined);
}

function verdict(kvm: ProbeRun | undefined, tcg: ProbeRun): ProbeVerdict["kvm"] {
  if (!kvm) return { ok: false, reason: "not tried" };
  if (kvm.passed) return { ok: true, reason: "" };
  if (kvm.stderr) {
    const reason = `/dev/kvm: ${kvm.stderr.replace(/^qemu[^:]*: /, "")}`;
    return { ok: false, reason, mayPass: PASSING.test(reason) };
  }
  const time = `${Math.round(kvm.elapsedMs)} ms, where emulation took ${Math.round(tcg.elapsedMs)} ms`;
  return {
    ok: false,
    reason: `/dev/kvm opens, but a test guest did not get past ${kvm.failedStep} in ${time}`,
  };
}

function openRefusal(): ProbeVerdict["kvm"] | undefined {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if (isErrno(error, "ENOENT"))
      return { ok: false, reason: "there is no /dev/kvm: the CPU's virtualisation is off or kvm not loaded" };
    if (isErrno(error, "EACCES"))
      return { ok: false, reason: "no permission for /dev/kvm: add the user to its group, kvm" };
    return { ok: false, reason: messageOf(error) };
  }
}
