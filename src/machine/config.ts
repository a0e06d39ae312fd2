// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MicrovmError } from "../errors.ts";
import type { StoredImage } from "../image/index.ts";
import { type Dirs, privateDir } from "../internal/dirs.ts";
import { packageFile } from "../internal/package.ts";
import { hostArch } from "../internal/platform.ts";
import type { ResolvedRunOptions } from "../options.ts";
import { claim } from "./owner.ts";
import type { MachineSpec, TmpfsSpec } from "./spec.ts";
import { processDefaults, stopSignalOf, workloadOf } from "./workload.ts";

const TMPFS_DEFAULTS = ["nosuid", "nodev", "noexec"];

/** Where everything that the machine needs has been found. */
export interface MachineParts {
  readonly dirs: Dirs;
  readonly image: StoredImage;
  /** The image as it was asked for. */
  readonly reference: string;
  readonly kernel: string;
  readonly backend: string;
}

/**
 * Puts options, image and host together into a spec, and makes the machine's directory.
 *
 * @throws MicrovmError `INVALID_OPTION` if there is nothing to run.
 */
export function machineSpec(options: ResolvedRunOptions, parts: MachineParts): MachineSpec {
  const { image, dirs } = parts;
  const id = randomBytes(8).toString("hex");
  const workload = workloadOf(image.config, options);
  const agent = initramfs();
  const dir = privateDir(join(privateDir(join(dirs.data, "vms")), id));
  claim(dir);
  return {
    id,
    name: options.name ?? `vm-${id.slice(0, 8)}`,
    dir,
    socketPath: join(dirs.runtime, `${id}.sock`),
    image: { reference: parts.reference, id: image.id, diskPath: image.diskPath },
    kernel: parts.kernel,
    initramfs: agent,
    backend: parts.backend,
    cpus: options.cpus,
    memoryMiB: options.memoryMiB,
    diskSizeMiB: options.writable === "disk" && !options.readOnly ? options.diskSizeMiB : 0,
    readOnly: options.readOnly,
    tmpfs: options.tmpfs.map(parseTmpfs),
    hostname: options.hostname ?? id.slice(0, 12),
    defaults: processDefaults(image.config, options),
    workload,
    stopSignal: stopSignalOf(image.config, options),
    stopTimeoutMs: options.stopTimeoutMs,
    bootTimeoutMs: options.bootTimeoutMs,
    timeoutMs: options.timeoutMs,
    autoRemove: options.remove,
    labels: options.labels,
    createdAt: Date.now(),
  };
}

/** `PATH[:OPTIONS]`, with Docker's default options under them. */
function parseTmpfs(text: string): TmpfsSpec {
  const colon = text.indexOf(":");
  const own =
    colon < 0
      ? []
      : text
          .slice(colon + 1)
          .split(",")
          .filter(Boolean);
  // "exec" answers "noexec" and so on: a default that is contradicted goes.
  const defaults = TMPFS_DEFAULTS.filter((option) => !own.includes(option.slice(2)) && !own.includes(option));
  return { target: colon < 0 ? text : text.slice(0, colon), options: [...defaults, ...own] };
}

/** The agent's initramfs, built with the package. `MICROVM_INITRAMFS` names another, for work on the agent itself. */
function initramfs(): string {
  const path =
    process.env["MICROVM_INITRAMFS"] ?? packageFile(`build/guest/linux-${hostArch()}/initramfs.cpio`);
  if (existsSync(path)) return path;
  throw new MicrovmError("MISSING_DEPENDENCY", `${path}: the guest agent is not there`, {
    stage: "config",
    hint: "In a checkout, build it: npm run guest:build",
  });
}
