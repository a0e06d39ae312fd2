// SPDX-License-Identifier: Apache-2.0
import * as z from "zod";
import { MicrovmError } from "./errors.ts";
import type { RunEvent } from "./events.ts";
import type { Backend } from "./hypervisor/index.ts";
import { MAX_TIMER_MS, terminal, text } from "./internal/schema.ts";
import { signalNumber } from "./internal/signals.ts";
import type { NetworkProvider } from "./net/index.ts";
import type { VM } from "./vm.ts";

const absolutePath = text.startsWith("/", "must be an absolute path");
const callable = <T>() => z.custom<T>((value) => typeof value === "function", "must be a function");

/** A name of a VM: what a hostname label or a container name may be. */
export const vmName = z
  .string()
  .regex(
    /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/,
    "must start with a letter or digit and hold only [a-zA-Z0-9_.-], 63 at most",
  );

/** The one schema of what `run` takes. The command line's flags and docs/OPTIONS.md are checked against it. */
export const runOptionsSchema = z.strictObject({
  name: vmName.optional().describe("Name of the VM, unique on this host; made up if left out"),
  command: z
    .union([z.array(text).max(4096), z.null()])
    .optional()
    .describe("Replaces the image's Cmd; `null` starts nothing: the VM then lives until it is stopped"),
  entrypoint: z
    .array(text)
    .max(4096)
    .optional()
    .describe("Replaces the image's Entrypoint, and drops its Cmd"),
  env: z
    .record(text.regex(/^[^=]+$/, "must be a variable name"), text)
    .optional()
    .describe("Environment of the workload and of every exec, on top of the image's"),
  workdir: absolutePath
    .optional()
    .describe("Working directory, made if missing; default the image's WorkingDir"),
  user: text.min(1).max(512).optional().describe("`name|uid[:group|gid]`; default the image's User"),
  hostname: z
    .string()
    .regex(/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?$/, "must be a hostname of at most 64 characters")
    .optional()
    .describe("Hostname inside; default the VM's id"),
  cpus: z.int().min(1).max(64).default(1).describe("Virtual CPUs"),
  memoryMiB: z.int().min(64).max(1_048_576).default(512).describe("Memory in MiB"),
  diskSizeMiB: z
    .int()
    .min(64)
    .max(64 * 1_048_576)
    .default(20_480)
    .describe("Size of the writable layer in MiB; sparse, so it costs what is written"),
  writable: z
    .enum(["disk", "memory"])
    .default("disk")
    .describe("Where writes go: a sparse ext4 disk, or the guest's memory (tmpfs)"),
  readOnly: z.boolean().default(false).describe("Mount the root file system read-only"),
  tmpfs: z
    .array(z.string().regex(/^\/[^:\0]*(:[^\0]*)?$/, "must be PATH[:OPTIONS], for example /tmp:size=64m"))
    .max(64)
    .default([])
    .describe("File systems in memory, each `PATH[:OPTIONS]`"),
  tty: terminal.default(false).describe("Give the workload a terminal, with this size if one is named"),
  stdin: z.boolean().default(false).describe("Keep the workload's standard input open"),
  stdio: z
    .enum(["ignore", "inherit", "pipe"])
    .default("ignore")
    .describe(
      "Output of the workload besides the log: nowhere, this process's own, or `vm.stdout`/`vm.stderr`",
    ),
  pull: z.enum(["missing", "always", "never"]).default("missing").describe("When to ask the registry"),
  platform: z
    .string()
    .regex(/^linux\/[a-z0-9_]+(\/[a-z0-9]+)?$/, "must be linux/ARCH[/VARIANT]")
    .optional()
    .describe("Platform of the image; default the host's"),
  labels: z
    .record(z.string().min(1).max(256), z.string().max(4096))
    .default({})
    .describe("Labels, kept with the VM"),
  stopSignal: z
    .union([z.string(), z.int().min(1).max(64)])
    .refine((value) => signalNumber(value) !== undefined, "must be a Linux signal")
    .optional()
    .describe("What `stop` sends first; default the image's StopSignal, else SIGTERM"),
  stopTimeoutMs: z
    .int()
    .min(0)
    .max(86_400_000)
    .default(10_000)
    .describe("How long the workload may take after the stop signal, in milliseconds"),
  bootTimeoutMs: z
    .int()
    .min(1)
    .max(3_600_000)
    .default(60_000)
    .describe("How long the VM may take from spawn to ready, in milliseconds"),
  timeoutMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .optional()
    .describe("Kill the workload after this many milliseconds; the exit code is then 124"),
  remove: z.boolean().default(false).describe("Remove the VM and what it wrote when it ends"),
  detach: z.boolean().default(false).describe("Hand the VM to a monitor process that outlives this one"),
  backend: z
    .union([
      z.string().min(1),
      z.custom<Backend>(
        (value) => typeof value === "object" && value !== null && "start" in value,
        "must be a backend",
      ),
    ])
    .default("auto")
    .describe("The hypervisor: `auto`, a name that `microvm doctor` lists, or a backend object"),
  network: z
    .union([
      z.literal("none"),
      z.custom<NetworkProvider>(
        (value) => typeof value === "object" && value !== null && "start" in value,
        "must be `none` or a provider",
      ),
    ])
    .default("none")
    .describe("The network: `none` gives the VM no NIC at all"),
  postBoot: z
    .array(callable<(vm: VM) => void | Promise<void>>())
    .default([])
    .describe("Called in order once the VM is up; the first that throws stops the VM"),
  onEvent: callable<(event: RunEvent) => void>().optional().describe("Progress of the pull and of the boot"),
  signal: z
    .custom<AbortSignal>((value) => value instanceof AbortSignal, "must be an AbortSignal")
    .optional()
    .describe("Aborts the start; a VM that is up is not touched by it"),
});

/** What `run` takes; see docs/OPTIONS.md for every key with its default. */
export type RunOptions = z.input<typeof runOptionsSchema>;
/** The same with every default filled in. */
export type ResolvedRunOptions = z.output<typeof runOptionsSchema>;

/**
 * Checks options and fills in the defaults.
 *
 * @throws MicrovmError `INVALID_OPTION` naming the option, also for a key that does not exist.
 */
export function parseRunOptions(options: RunOptions): ResolvedRunOptions {
  const result = runOptionsSchema.safeParse(options);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const path = issue.path.map(String).join(".");
    return path ? `${path}: ${issue.message}` : issue.message;
  });
  throw new MicrovmError("INVALID_OPTION", problems.join("; "), {
    stage: "options",
    hint: "docs/OPTIONS.md lists every option with its shape and default.",
  });
}
