// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";
import type { Acceleration, Availability, Backend } from "./backend.ts";
import { qemu } from "./qemu/index.ts";

interface Registration {
  readonly name: string;
  /** In `auto`, only taken when the CPU itself runs the guest. */
  readonly create: (options: { readonly cacheDir?: string | undefined }) => Backend;
}

/** Every backend, best first. */
const BACKENDS: readonly Registration[] = [{ name: "qemu", create: qemu }];

/** What a backend may be asked for by, besides `auto`. */
export const BACKEND_NAMES: readonly string[] = BACKENDS.map(({ name }) => name);

export interface SelectedBackend {
  readonly backend: Backend;
  readonly version: string;
  readonly acceleration: Acceleration;
  /** One line for the user when this is not what a good machine would run. */
  readonly warning?: string | undefined;
}

/**
 * Picks the backend for a VM: the one named or given, or with `auto` the first on which the CPU itself runs guests, else
 * the first that works at all.
 *
 * @throws MicrovmError `BACKEND_UNAVAILABLE` with every backend's reason, `INVALID_OPTION` for a name there is not.
 */
export async function selectBackend(
  choice: string | Backend,
  options: { readonly cacheDir?: string | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<SelectedBackend> {
  let fallback: SelectedBackend | undefined;
  const refusals: { name: string; availability: Extract<Availability, { ok: false }> }[] = [];
  for (const backend of candidates(choice, options.cacheDir)) {
    const availability = await backend.availability(options.signal);
    if (!availability.ok) {
      refusals.push({ name: backend.name, availability });
      continue;
    }
    const { version, acceleration, warning } = availability;
    const selected = { backend, version, acceleration, warning };
    if (acceleration !== "tcg") return selected;
    fallback ??= selected;
  }
  if (fallback) return fallback;
  throw new MicrovmError(
    "BACKEND_UNAVAILABLE",
    refusals.map(({ name, availability }) => `${name}: ${availability.reason}`).join("; "),
    { stage: "preflight", hint: refusals.map(({ availability }) => availability.hint).join(" ") },
  );
}

function candidates(choice: string | Backend, cacheDir: string | undefined): Backend[] {
  if (typeof choice !== "string") return [choice];
  const chosen = BACKENDS.filter(({ name }) => choice === "auto" || choice === name);
  if (chosen.length > 0) return chosen.map(({ create }) => create({ cacheDir }));
  const names = ["auto", ...BACKEND_NAMES].join(", ");
  throw new MicrovmError("INVALID_OPTION", `backend: ${choice}: must be one of ${names}`, {
    stage: "options",
  });
}
