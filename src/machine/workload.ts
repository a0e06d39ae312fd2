// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";
import type { ImageConfig } from "../image/index.ts";
import { terminalSizeOf } from "../internal/schema.ts";
import { signalNumber } from "../internal/signals.ts";
import type { ResolvedRunOptions } from "../options.ts";
import type { ProcessSpec } from "./spec.ts";

const SIGTERM = 15;

/**
 * The environment, directory and user that the image and the options give to everything that runs inside.
 *
 * Source: OCI image-spec config.md, `config.Env`, `config.WorkingDir`, `config.User`.
 */
export function processDefaults(
  image: ImageConfig,
  options: Pick<ResolvedRunOptions, "env" | "workdir" | "user">,
): Pick<ProcessSpec, "env" | "cwd" | "user"> {
  return {
    env: mergeEnv(image.env, options.env ?? {}),
    cwd: options.workdir ?? (image.workingDir || "/"),
    user: options.user ?? image.user,
  };
}

/**
 * The VM's main process: the image's Entrypoint and Cmd as the options change them, by Docker's rules: `command`
 * replaces Cmd, `entrypoint` replaces Entrypoint and drops Cmd.
 *
 * @returns undefined if `command` is `null`: nothing is to be started.
 * @throws MicrovmError `INVALID_OPTION` if there is nothing to run.
 */
export function workloadOf(image: ImageConfig, options: ResolvedRunOptions): ProcessSpec | undefined {
  if (options.command === null) return undefined;
  const entrypoint = options.entrypoint ?? image.entrypoint;
  const command = options.command ?? (options.entrypoint ? [] : image.cmd);
  const args = [...entrypoint, ...command];
  if (args.length === 0) {
    throw new MicrovmError("INVALID_OPTION", "nothing to run: the image has no Entrypoint and no Cmd", {
      stage: "config",
      hint: "Name a command: microvm run IMAGE COMMAND",
    });
  }
  return {
    args,
    ...processDefaults(image, options),
    tty: terminalSizeOf(options.tty),
    stdin: options.stdin,
  };
}

/** What `stop` sends first. An image that names a signal Linux does not have gets SIGTERM. */
export function stopSignalOf(image: ImageConfig, options: Pick<ResolvedRunOptions, "stopSignal">): number {
  return signalNumber(options.stopSignal ?? image.stopSignal ?? "") ?? SIGTERM;
}

/** `NAME=value` entries with those of `own` put over those of the same name; the order of first mention is kept. */
export function mergeEnv(base: readonly string[], own: Readonly<Record<string, string>>): string[] {
  const merged = new Map<string, string>();
  for (const entry of base) {
    const equals = entry.indexOf("=");
    if (equals > 0) merged.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  for (const [name, value] of Object.entries(own)) merged.set(name, value);
  return Array.from(merged, ([name, value]) => `${name}=${value}`);
}
