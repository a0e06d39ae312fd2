// SPDX-License-Identifier: Apache-2.0
import { MicrovmError, toMicrovmError } from "../../errors.ts";
import type { Acceleration, Availability, Backend, Vmm, VmmConfig } from "../backend.ts";
import { remembered } from "../boot-memory.ts";
import { checkVmmConfig } from "../check-config.ts";
import { fileIdentity } from "../file-identity.ts";
import { isExecutable } from "../mortal-command.ts";
import { probeAcceleration } from "../probe/index.ts";
import { askQemu, findQemu } from "./binary.ts";
import { startQemu } from "./vmm.ts";

export interface QemuOptions {
  /** Path of `qemu-system-…`. Default: found in PATH. */
  readonly binary?: string | undefined;
  /** `auto` takes KVM or HVF if guest code is seen running on it, else TCG. Default: auto. */
  readonly accel?: Acceleration | "auto" | undefined;
  /** Where to remember, until the next reboot, what was found out about this machine. Default: nowhere. */
  readonly cacheDir?: string | undefined;
}

/** What is known of a QEMU on this machine; plain data, so that it can be remembered. */
interface Survey {
  readonly version: string;
  readonly sandbox: boolean;
  /** Whether the CPU itself can run guests, and why not. */
  readonly native: { readonly ok: boolean; readonly reason: string; readonly mayPass?: boolean };
  /** Of an emulated x86-64 CPU. */
  readonly tscKHz?: number | undefined;
}

/** What is asked in a survey; another number whenever that changes. */
const SURVEY = "qemu survey 1";

type Found = { readonly binary: string; readonly acceleration: Acceleration; readonly survey: Survey };

/** The QEMU backend: everywhere QEMU runs, with KVM or HVF where they work and emulation where not. */
export function qemu(options: QemuOptions = {}): Backend {
  let found: Promise<Found> | undefined;
  const find = async (signal?: AbortSignal): Promise<Found> => {
    found ??= survey(options, signal);
    try {
      return await found;
    } catch (error) {
      found = undefined; // what was missing may be there next time
      throw toMicrovmError(error, "preflight", signal);
    }
  };
  return {
    name: "qemu",
    async availability(signal): Promise<Availability> {
      try {
        const { acceleration, survey } = await find(signal);
        const warning =
          acceleration === "tcg" && (options.accel ?? "auto") === "auto" ? slow(survey) : undefined;
        return { ok: true, version: survey.version, acceleration, warning };
      } catch (error) {
        if (!(error instanceof MicrovmError) || error.code !== "BACKEND_UNAVAILABLE") throw error;
        return { ok: false, reason: error.message, hint: error.hint ?? "Install QEMU." };
      }
    },
    async start(config: VmmConfig, signal): Promise<Vmm> {
      checkVmmConfig(config);
      try {
        const { binary, acceleration, survey } = await find(signal);
        return await startQemu(
          binary,
          config,
          { arch: hostArch(), acceleration, sandbox: survey.sandbox, tscKHz: survey.tscKHz },
          signal,
        );
      } catch (error) {
        throw toMicrovmError(error, "spawn", signal);
      }
    },
  };
}

async function survey(options: QemuOptions, signal?: AbortSignal): Promise<Found> {
  const binary = options.binary ?? findQemu(hostArch());
  if (!binary || !isExecutable(binary)) {
    throw unavailable(binary ? `${binary} is not an executable file` : "QEMU is not installed");
  }
  const accel = options.accel ?? "auto";
  const identities = [binary, "/dev/kvm"].map(fileIdentity);
  const find = async (): Promise<Survey> => {
    const [features, probe] = await Promise.all([askQemu(binary, signal), probeNative(binary, signal)]);
    return { ...features, ...probe };
  };
  const isLasting = ({ native }: Survey): boolean => !native.mayPass;
  const key = [SURVEY, ...identities];
  const result = await remembered(options.cacheDir, key, isSurvey, find, isLasting);
  if (accel !== "auto" && accel !== "tcg" && !result.native.ok)
    throw unavailable(`${accel}: ${result.native.reason}`);
  const native: Acceleration = process.platform === "darwin" ? "hvf" : "kvm";
  return { binary, survey: result, acceleration: accel !== "tcg" && result.native.ok ? native : "tcg" };
}

async function probeNative(binary: string, signal?: AbortSignal): Promise<Pick<Survey, "native" | "tscKHz">> {
  if (process.platform === "linux") {
    const { kvm, tscKHz } = await probeAcceleration(binary, signal);
    return { native: kvm, tscKHz };
  }
  // Apple's hypervisor either is there or QEMU says so at once; there is no half-working kind.
  return {
    native: { ok: process.platform === "darwin", reason: `no hypervisor known on ${process.platform}` },
  };
}

function hostArch(): "x64" | "arm64" {
  if (process.arch === "x64" || process.arch === "arm64") return process.arch;
  throw new MicrovmError("UNSUPPORTED_PLATFORM", `no guest kernel for ${process.arch}`, {
    stage: "preflight",
  });
}

function slow(survey: Survey): string {
  return `no hardware virtualisation (${survey.native.reason}): QEMU emulates the CPU, 10 to 50 times slower`;
}

function unavailable(reason: string): MicrovmError {
  return new MicrovmError("BACKEND_UNAVAILABLE", reason, {
    stage: "preflight",
    hint: "Install QEMU 7.2 or later (Debian, Ubuntu: qemu-system-x86; Fedora: qemu-system-x86-core; macOS: brew install qemu).",
  });
}

function isSurvey(value: unknown): value is Survey {
  if (typeof value !== "object" || value === null) return false;
  const { version, sandbox, native, tscKHz } = value as Partial<Survey>;
  return (
    (tscKHz === undefined || (Number.isInteger(tscKHz) && tscKHz > 0)) &&
    typeof version === "string" &&
    typeof sandbox === "boolean" &&
    typeof native?.ok === "boolean" &&
    typeof native.reason === "string"
  );
}
