// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { MicrovmError, messageOf } from "../errors.ts";
import { BACKEND_NAMES, selectBackend } from "../hypervisor/index.ts";
import { type Dirs, privateDir } from "../internal/dirs.ts";
import { packageFile } from "../internal/package.ts";
import { hostArch } from "../internal/platform.ts";
import { formatBytes } from "../internal/units.ts";
import { locateRuntime } from "../runtime/index.ts";

const NODE_MINIMUM = [22, 18] as const;
const DISK_MINIMUM = 2e9;
const MEMORY_MINIMUM = 512 * 2 ** 20;

/** What one check of the host found. */
export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  /** Whether VMs cannot run without it. */
  readonly required: boolean;
  readonly detail: string;
  /** What to do about it, when it is not ok. */
  readonly hint: string | undefined;
}

interface Check {
  readonly name: string;
  readonly required: boolean;
  /** What was found; throws with a hint if that is not enough. */
  run(dirs: Dirs): Promise<string> | string;
}

const CHECKS: readonly Check[] = [
  { name: "node", required: true, run: nodeVersion },
  { name: "guest agent", required: true, run: guestAgent },
  { name: "kernel", required: true, run: kernel },
  ...BACKEND_NAMES.map(
    (name): Check => ({
      name: `backend ${name}`,
      required: true,
      run: (dirs) => backend(name, dirs),
    }),
  ),
  { name: "directories", required: true, run: directories },
  { name: "disk", required: false, run: disk },
  { name: "memory", required: false, run: memory },
];

/** Checks this machine, all at once; never throws: what is wrong is in the results. */
export function checkHost(dirs: Dirs): Promise<CheckResult[]> {
  return Promise.all(
    CHECKS.map(async ({ name, required, run }) => {
      try {
        return { name, required, ok: true, detail: await run(dirs), hint: undefined };
      } catch (error) {
        const hint = error instanceof MicrovmError ? error.hint : undefined;
        return { name, required, ok: false, detail: messageOf(error), hint };
      }
    }),
  );
}

function fail(message: string, hint: string): never {
  throw new MicrovmError("MISSING_DEPENDENCY", message, { stage: "preflight", hint });
}

function nodeVersion(): string {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1]))
    return process.version;
  return fail(`node ${process.version} is too old`, `Install Node.js ${NODE_MINIMUM.join(".")} or later.`);
}

function guestAgent(): string {
  const path = packageFile(`build/guest/linux-${hostArch()}/initramfs.cpio`);
  return existsSync(path) ? path : fail(`${path} is missing`, "In a checkout, build it: npm run guest:build");
}

async function kernel(dirs: Dirs): Promise<string> {
  const { kernel: path } = await locateRuntime({ cacheDir: dirs.cache });
  return path;
}

async function backend(name: string, dirs: Dirs): Promise<string> {
  const { version, acceleration, warning } = await selectBackend(name, { cacheDir: dirs.cache });
  return warning ? `${version}, ${acceleration}: ${warning}` : `${version}, ${acceleration}`;
}

function directories(dirs: Dirs): string {
  return [dirs.cache, dirs.data, dirs.runtime].map(privateDir).join(", ");
}

async function disk(dirs: Dirs): Promise<string> {
  const { bavail, bsize } = await statfs(privateDir(dirs.data));
  const free = bavail * bsize;
  if (free >= DISK_MINIMUM) return `${formatBytes(free)} free`;
  return fail(
    `${formatBytes(free)} free where VMs are kept`,
    "Free some space, or point MICROVM_DATA_DIR elsewhere.",
  );
}

function memory(): string {
  const available = process.availableMemory?.() ?? freemem();
  const text = `${formatBytes(available)} of ${formatBytes(totalmem())} available`;
  return available >= MEMORY_MINIMUM ? text : fail(text, "A VM has 512 MiB unless --memory says otherwise.");
}
