// SPDX-License-Identifier: Apache-2.0
import { arch } from "node:os";
import { MicrovmError } from "../errors.ts";

/** Architectures a guest can have, as OCI and Go name them. */
export type GuestArch = "amd64" | "arm64";

/** The host's architecture: a VM is no emulator of others. @throws MicrovmError `UNSUPPORTED_PLATFORM`. */
export function hostArch(): GuestArch {
  const name = arch();
  if (name === "x64") return "amd64";
  if (name === "arm64") return "arm64";
  throw new MicrovmError("UNSUPPORTED_PLATFORM", `no guest kernel for ${name}`, {
    stage: "preflight",
    hint: "ts-microvm runs on x86-64 and arm64.",
  });
}
