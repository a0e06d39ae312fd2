// SPDX-License-Identifier: Apache-2.0
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { MicrovmError, messageOf } from "../../errors.ts";
import { findProgram, isExecutable, vmmEnvironment } from "../mortal-command.ts";

/** What a QEMU program can do, as far as we use it. */
export interface QemuFeatures {
  readonly version: string;
  /** `-sandbox` is there: it was built with seccomp. */
  readonly sandbox: boolean;
}

/** `-netdev stream` came with 7.2. */
const OLDEST = [7, 2] as const;

const run = promisify(execFile);

/** Where a QEMU for this machine's own kind of CPU is: PATH, then where Fedora and RHEL hide theirs. */
export function findQemu(arch: NodeJS.Architecture): string | undefined {
  const name = arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";
  return findProgram(name) ?? ["/usr/libexec/qemu-kvm"].find(isExecutable);
}

/**
 * Asks a QEMU program for its version and features.
 *
 * @throws MicrovmError `BACKEND_UNAVAILABLE` if it does not run, is no QEMU, or is too old.
 */
export async function askQemu(binary: string, signal?: AbortSignal): Promise<QemuFeatures> {
  const ask = async (option: string): Promise<string> => {
    const answer = await run(binary, [option], { env: vmmEnvironment(), timeout: 10_000, signal });
    return answer.stdout;
  };
  try {
    const [versionText, helpText] = await Promise.all([ask("--version"), ask("-help")]);
    const version = parseQemuVersion(versionText);
    if (!version) throw new Error("says nothing of a QEMU version");
    if (isTooOld(version)) throw new Error(`is version ${version}, older than ${OLDEST.join(".")}`);
    return { version, sandbox: /^-sandbox /m.test(helpText) };
  } catch (error) {
    signal?.throwIfAborted();
    throw new MicrovmError("BACKEND_UNAVAILABLE", `${binary}: ${messageOf(error)}`, {
      stage: "preflight",
      cause: error,
      hint: `Install QEMU ${OLDEST.join(".")} or later.`,
    });
  }
}

/** `7.2.22` out of `QEMU emulator version 7.2.22 (Debian …)`. */
export function parseQemuVersion(text: string): string | undefined {
  return /^QEMU emulator version (\d{1,4}(?:\.\d{1,4}){1,3})/m.exec(text)?.[1];
}

function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
}
