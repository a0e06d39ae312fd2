// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { MicrovmError, messageOf } from "../errors.ts";
import { parseBytes, parseDuration } from "../internal/units.ts";
import type { RunOptions } from "../options.ts";

/** One flag of `microvm run`, and the option of the library that it sets. */
export interface RunFlag {
  readonly flags: string;
  readonly option: keyof RunOptions;
  readonly description: string;
  readonly parse?: (value: string, previous: unknown) => unknown;
}

type Flags = Readonly<Record<string, unknown>>;

/** Every flag that sets an option. `env-file`, `quiet` and what follows the image are dealt with in `runOptionsOf`. */
export const RUN_FLAGS: readonly RunFlag[] = [
  { flags: "-d, --detach", option: "detach", description: "run in the background and print the VM's id" },
  { flags: "-i, --interactive", option: "stdin", description: "keep standard input open" },
  { flags: "-t, --tty", option: "tty", description: "give the command a terminal" },
  { flags: "--rm", option: "remove", description: "remove the VM when it ends" },
  { flags: "--name <name>", option: "name", description: "name of the VM" },
  { flags: "-e, --env <name[=value]>", option: "env", description: "environment variable; without a value, this shell's", parse: collect },
  { flags: "-w, --workdir <dir>", option: "workdir", description: "working directory" },
  { flags: "-u, --user <user[:group]>", option: "user", description: "name or uid, and group" },
  { flags: "--entrypoint <command>", option: "entrypoint", description: "replace the image's entrypoint" },
  { flags: "--hostname <name>", option: "hostname", description: "hostname inside" },
  { flags: "--cpus <count>", option: "cpus", description: "virtual CPUs (1)", parse: integer },
  { flags: "-m, --memory <size>", option: "memoryMiB", description: "memory, such as 512m or 2g (512m)", parse: mebibytes },
  { flags: "--disk-size <size>", option: "diskSizeMiB", description: "size of the writable layer (20g)", parse: mebibytes },
  { flags: "--writable <where>", option: "writable", description: "keep writes on 'disk' or in 'memory' (disk)" },
  { flags: "--read-only", option: "readOnly", description: "mount the root file system read-only" },
  { flags: "--tmpfs <path[:options]>", option: "tmpfs", description: "file system in memory", parse: collect },
  { flags: "--pull <policy>", option: "pull", description: "missing, always or never (missing)" },
  { flags: "--platform <platform>", option: "platform", description: "platform of the image, such as linux/amd64" },
  { flags: "-l, --label <name=value>", option: "labels", description: "label of the VM", parse: collect },
  { flags: "--stop-signal <signal>", option: "stopSignal", description: "what stop sends first" },
  { flags: "--stop-timeout <time>", option: "stopTimeoutMs", description: "patience after the stop signal (10s)", parse: duration },
  { flags: "--boot-timeout <time>", option: "bootTimeoutMs", description: "patience until the VM is up (60s)", parse: duration },
  { flags: "--timeout <time>", option: "timeoutMs", description: "kill the command after this time; exit code 124", parse: duration },
  { flags: "--backend <name>", option: "backend", description: "auto, or one that `microvm doctor` lists (auto)" },
  { flags: "--network <mode>", option: "network", description: "none (none)" },
]; // biome-ignore format: a table

/** Options that make sense in a program only. */
export const LIBRARY_ONLY: readonly (keyof RunOptions)[] = [
  "command",
  "stdio",
  "postBoot",
  "onEvent",
  "signal",
];

/** Adds the flags to a command. */
export function addRunFlags(command: Command): void {
  for (const { flags, description, parse } of RUN_FLAGS) {
    const option = new Option(flags, description);
    command.addOption(parse ? option.argParser(parse) : option);
  }
  command.option("--env-file <file>", "file of NAME=VALUE lines", collect);
}

/**
 * The library's options from what commander parsed.
 *
 * @throws MicrovmError `INVALID_OPTION`, also for a file of variables that cannot be read.
 */
export function runOptionsOf(flags: Flags, command: readonly string[]): RunOptions {
  const options: Record<string, unknown> = {};
  for (const flag of RUN_FLAGS) {
    const value = flags[new Option(flag.flags).attributeName()];
    if (value !== undefined) options[flag.option] = value;
  }
  const files = (flags["envFile"] as string[] | undefined) ?? [];
  const entries = [...files.flatMap(readEnvFile), ...((flags["env"] as string[] | undefined) ?? [])];
  if (entries.length > 0) options["env"] = envOf(entries);
  if (options["labels"]) options["labels"] = pairs(options["labels"] as string[]);
  if (typeof options["entrypoint"] === "string")
    options["entrypoint"] = options["entrypoint"] ? [options["entrypoint"]] : [];
  if (command.length > 0) options["command"] = [...command];
  return options as RunOptions;
}

/** `NAME=VALUE` and `NAME` (taken from this process, left out if it has none), later ones winning. */
export function envOf(entries: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    const inherited = equals < 0 ? process.env[entry] : undefined;
    if (equals >= 0) env[entry.slice(0, equals)] = entry.slice(equals + 1);
    else if (inherited !== undefined) env[entry] = inherited;
  }
  return env;
}

function readEnvFile(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new MicrovmError("INVALID_OPTION", `--env-file: ${messageOf(cause)}`, { stage: "options", cause });
  }
  return text
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

const pairs = (entries: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    entries.map((entry) => {
      const equals = entry.indexOf("=");
      return equals < 0 ? [entry, ""] : [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );

/** For flags that may be repeated. */
export function collect(value: string, previous: unknown): string[] {
  return [...((previous as string[] | undefined) ?? []), value];
}

/** For flags that count. */
export function integer(value: string): number {
  if (!/^\d+$/.test(value)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(value);
}

/** For flags that take a time. */
export function duration(value: string): number {
  const millis = parseDuration(value);
  if (millis === undefined) throw new InvalidArgumentError("It must be a time such as 30s, 500ms or 5m.");
  return millis;
}

function mebibytes(value: string): number {
  const bytes = parseBytes(value);
  if (bytes === undefined) throw new InvalidArgumentError("It must be a size such as 512m or 2g.");
  return Math.ceil(bytes / 2 ** 20);
}
