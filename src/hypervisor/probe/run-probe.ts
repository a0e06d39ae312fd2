// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { mortalCommand, vmmEnvironment } from "../mortal-command.ts";
import type { ClockSample } from "./clock-rate.ts";

/** What the guest program reports, and what each letter proves. */
const STEPS: readonly { readonly letter: string; readonly what: string }[] = [
  { letter: "P", what: "entering the guest" },
  { letter: "L", what: "long mode" },
  { letter: "R", what: "running ordinary code at speed" },
  { letter: "M", what: "touching memory" },
  { letter: "F", what: "taking a fault" },
  { letter: "T", what: "changing page tables" },
  { letter: "C", what: "CPUID and model-specific registers" },
  { letter: "I", what: "timer interrupts" },
];

const SAMPLE = "S".charCodeAt(0);
const SAMPLE_BYTES = 9;

/** How far a probe came. */
export interface ProbeRun {
  readonly passed: boolean;
  /** The step that it did not come past. */
  readonly failedStep: string;
  /** First line that QEMU wrote on stderr. */
  readonly stderr: string;
  readonly elapsedMs: number;
  readonly samples: readonly ClockSample[];
}

/**
 * Runs the guest program in QEMU until it has done everything, QEMU ends, or `deadline` aborts.
 *
 * @param enough - asked after each sample of the guest's time stamp counter whether there are enough. Default: always.
 */
export async function runProbe(
  binary: string,
  image: string,
  accelerator: readonly string[],
  deadline: AbortSignal,
  enough: (samples: readonly ClockSample[]) => boolean = () => true,
): Promise<ProbeRun> {
  const command = mortalCommand({
    file: binary,
    args: [
      ...["-machine", "microvm,acpi=off,isa-serial=off,x-option-roms=off", "-m", "size=64M"],
      ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
      ...accelerator,
      ...["-kernel", image],
      ...["-chardev", "socket,id=debug,fd=3", "-device", "isa-debugcon,chardev=debug,iobase=0xe9"],
    ],
  });
  const started = performance.now();
  const child = spawn(command.file, command.args, {
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    env: vmmEnvironment(),
    cwd: "/",
    detached: true,
  });
  const stop = (): boolean => child.kill("SIGKILL");
  deadline.addEventListener("abort", stop, { once: true });
  if (deadline.aborted) stop();
  const report = new ProbeReport();
  let stderr = "";
  let elapsedMs = 0;
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString("utf8")).slice(0, 2048);
  });
  const debug = child.stdio[3];
  debug?.on("error", () => undefined); // QEMU's end is reported by its exit
  debug?.on("data", (chunk: Buffer) => {
    const now = performance.now();
    report.push(chunk, now);
    if (!report.passed) return;
    elapsedMs ||= now - started;
    if (enough(report.samples)) stop();
  });
  await new Promise<void>((resolve) => {
    child.once("error", () => resolve()); // never started
    child.once("close", () => resolve());
  });
  deadline.removeEventListener("abort", stop);
  return {
    passed: report.passed,
    failedStep: report.failedStep,
    stderr: stderr.trim().split("\n")[0] ?? "",
    elapsedMs: elapsedMs || performance.now() - started,
    samples: report.samples,
  };
}

class ProbeReport {
  readonly samples: ClockSample[] = [];
  #steps = 0;
  #rest: Buffer = Buffer.alloc(0);

  get passed(): boolean {
    return this.#steps === STEPS.length;
  }

  get failedStep(): string {
    return STEPS[this.#steps]?.what ?? "nothing";
  }

  push(chunk: Buffer, hostMs: number): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (!this.passed && bytes.length > 0) {
      if (bytes[0] !== STEPS[this.#steps]?.letter.charCodeAt(0)) return; // the guest found something wrong
      this.#steps += 1;
      bytes = bytes.subarray(1);
    }
    // Of samples that come together, the last was on its way for the shortest time.
    const whole = bytes.length - (bytes.length % SAMPLE_BYTES);
    if (whole > 0 && bytes[whole - SAMPLE_BYTES] === SAMPLE) {
      this.samples.push({ ticks: Number(bytes.readBigUInt64LE(whole - SAMPLE_BYTES + 1)), hostMs });
    }
    this.#rest = bytes.subarray(whole);
  }
}
