// SPDX-License-Identifier: Apache-2.0
import type { Readable, Writable } from "node:stream";
import * as z from "zod";
import type { Exec, ExecSpec } from "./agent/index.ts";
import { MicrovmError } from "./errors.ts";
import { printable } from "./internal/printable.ts";
import { MAX_TIMER_MS, terminal, terminalSizeOf, text } from "./internal/schema.ts";
import { signalName, signalNumber } from "./internal/signals.ts";

export const execOptionsSchema = z.strictObject({
  env: z
    .record(text.regex(/^[^=]+$/), text)
    .default({})
    .describe("On top of the VM's own environment"),
  cwd: text.startsWith("/").optional().describe("Default: the workload's"),
  user: text.min(1).optional().describe("`name|uid[:group|gid]`; default the workload's"),
  tty: terminal.default(false).describe("Give it a terminal; stdout then carries both outputs"),
  stdin: z.boolean().default(false).describe("Open `stdin` for writing; else it reads /dev/null"),
  input: z
    .union([text, z.instanceof(Uint8Array)])
    .optional()
    .describe("Written to its standard input, then closed"),
  buffer: z
    .boolean()
    .default(true)
    .describe("Collect the output for the result; `false` leaves it to be read"),
  maxBuffer: z
    .int()
    .min(0)
    .default(16 * 2 ** 20)
    .describe("Bytes collected per stream; what comes after is dropped"),
  reject: z.boolean().default(true).describe("Throw when it ends with another code than 0"),
  timeoutMs: z.int().min(1).max(MAX_TIMER_MS).optional().describe("Kill it after this many milliseconds"),
  signal: z
    .custom<AbortSignal>((value) => value instanceof AbortSignal)
    .optional()
    .describe("Kills it when aborted"),
});

/** How long a killed process may take to end. */
const KILL_GRACE_MS = 2_000;

/** What `vm.exec` takes besides the command. */
export type ExecOptions = z.input<typeof execOptionsSchema>;

/** How an exec ended, and what it wrote. */
export interface ExecResult {
  readonly exitCode: number;
  /** `SIGKILL` and the like, if a signal ended it; `exitCode` is then 128 + its number. */
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether output was dropped because it was more than `maxBuffer`. */
  readonly truncated: boolean;
}

/** An exec that ended with another exit code than 0; has everything its result would have had. */
export class ExecError extends MicrovmError implements ExecResult {
  readonly exitCode: number;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly truncated: boolean;

  constructor(command: string, result: ExecResult) {
    const how = result.signal ? `killed by ${result.signal}` : `exit code ${result.exitCode}`;
    const said = result.stderr.trim().split("\n").at(-1);
    super("EXEC_FAILED", `${printable(command)}: ${how}${said ? `: ${printable(said.slice(0, 300))}` : ""}`, {
      stage: "exec",
    });
    this.exitCode = result.exitCode;
    this.signal = result.signal;
    this.stdout = result.stdout;
    this.stderr = result.stderr;
    this.truncated = result.truncated;
  }
}

/** A process started by `vm.exec`: a promise of its result, and a handle on it while it runs. */
export class ExecProcess implements Promise<ExecResult> {
  readonly [Symbol.toStringTag] = "ExecProcess";
  readonly stdin: Writable | undefined;
  /** Only with `buffer: false`; it must then be read. */
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** Pid in the guest. */
  readonly pid: Promise<number>;
  readonly #exec: Exec;
  readonly #result: Promise<ExecResult>;

  /** @internal */
  constructor(command: string, exec: Exec, options: z.output<typeof execOptionsSchema>) {
    this.#exec = exec;
    this.stdin = options.input === undefined ? exec.stdin : undefined;
    this.pid = exec.pid;
    if (!options.buffer) {
      this.stdout = exec.stdout;
      this.stderr = exec.stderr;
    }
    if (options.input !== undefined) {
      exec.stdin?.on("error", () => {}); // it need not read all of its input
      exec.stdin?.end(options.input);
    }
    this.#result = this.#collect(command, options);
    this.#result.catch(() => {}); // whoever only uses the streams need not handle it
  }

  /** Sends a signal to its process group. */
  kill(signal: string | number = "SIGTERM"): void {
    const number = signalNumber(signal);
    if (number === undefined)
      throw new MicrovmError("INVALID_OPTION", `no such signal: ${signal}`, { stage: "exec" });
    this.#exec.kill(number);
  }

  /** Changes the size of its terminal. */
  resize(size: { rows: number; columns: number }): void {
    this.#exec.resize(size);
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise of its result, as child processes are in execa
  then<A = ExecResult, B = never>(
    onResult?: ((result: ExecResult) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<ExecResult | B> {
    return this.#result.catch(onError);
  }

  finally(onSettled?: (() => void) | null): Promise<ExecResult> {
    return this.#result.finally(onSettled);
  }

  async #collect(command: string, options: z.output<typeof execOptionsSchema>): Promise<ExecResult> {
    let timedOut = false;
    let grace: NodeJS.Timeout | undefined;
    const timedOutError = () =>
      new MicrovmError("TIMEOUT", `${command}: killed after ${options.timeoutMs} ms`, { stage: "exec" });
    const timer = options.timeoutMs
      ? setTimeout(() => {
          timedOut = true;
          this.#exec.kill(9);
          // A guest that does not say that it is dead gets no more time.
          grace = setTimeout(() => void this.#exec[Symbol.asyncDispose](), KILL_GRACE_MS);
        }, options.timeoutMs)
      : undefined;
    try {
      const collect = (stream: Readable | undefined) =>
        options.buffer && stream ? collectText(stream, options.maxBuffer) : { text: "", truncated: false };
      const [status, stdout, stderr] = await Promise.all([
        this.#exec.exit,
        collect(this.#exec.stdout),
        collect(this.#exec.stderr),
      ]);
      const result: ExecResult = {
        exitCode: status.signal > 0 ? 128 + status.signal : status.code,
        signal: status.signal > 0 ? signalName(status.signal) : undefined,
        stdout: stdout.text,
        stderr: stderr.text,
        truncated: stdout.truncated || stderr.truncated,
      };
      if (timedOut) throw timedOutError();
      if (options.reject && result.exitCode !== 0) throw new ExecError(command, result);
      return result;
    } catch (error) {
      if (timedOut) throw timedOutError();
      throw error;
    } finally {
      clearTimeout(timer);
      clearTimeout(grace);
    }
  }
}

/** What goes to the guest for `vm.exec(file, args, options)`. */
export function execSpecOf(
  file: string,
  args: readonly string[],
  options: z.output<typeof execOptionsSchema>,
): ExecSpec {
  const tty = terminalSizeOf(options.tty);
  return {
    args: [file, ...args],
    env: Object.entries(options.env).map(([name, value]) => `${name}=${value}`),
    cwd: options.cwd ?? "",
    user: options.user ?? "",
    ...(tty && { tty }),
    stdin: options.stdin || options.input !== undefined,
    stdout: true,
    stderr: !tty,
  };
}

async function collectText(stream: Readable, limit: number): Promise<{ text: string; truncated: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  let truncated = false;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    const kept = chunk.subarray(0, limit - size);
    truncated ||= kept.length < chunk.length;
    if (kept.length > 0) chunks.push(kept);
    size += kept.length;
  }
  return { text: Buffer.concat(chunks).toString("utf8"), truncated };
}
