// SPDX-License-Identifier: Apache-2.0
import type { Readable, Writable } from "node:stream";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MicrovmError } from "../errors.ts";
import type { BootSchema, ExecSchema, Ready, StageDone } from "./gen/microvm/v1/channel_pb.ts";

/** How the guest is to be set up: the schema's `Boot`, as a plain object. */
export type BootConfig = MessageInitShape<typeof BootSchema>;

/**
 * One process to start in the guest: the schema's `Exec`, as a plain object, without the id, which is chosen by
 * the channel. `stdin`, `stdout` and `stderr` say which streams are wanted; the others are /dev/null.
 */
export type ExecSpec = Omit<Extract<MessageInitShape<typeof ExecSchema>, { $typeName?: never }>, "id">;

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** How a process ended. */
export interface ExitStatus {
  /** Exit code; 0 if a signal ended it. */
  readonly code: number;
  /** Number of the Linux signal that ended it; 0 if it exited. */
  readonly signal: number;
}

export interface WaitOptions {
  /** Ends the wait, with `ABORTED` or `TIMEOUT`. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A process in the guest.
 *
 * The streams respect back-pressure: what is not read stays in the guest, beyond one receive window, and the process
 * waits when its pipe is full, as with any pipe. Output that arrived is kept for a reader that comes after `exit`.
 * None of the streams brings the host down: their errors are also in `exit`, so listening for `error` is optional.
 */
export interface Exec extends AsyncDisposable {
  /** Present if asked for. `end()` is the end of file. Destroyed when the process ends. */
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** Of the process, in the guest. Rejects as `exit` does if it was never started. */
  readonly pid: Promise<number>;
  /**
   * Settles when the process has ended and all its output is here. A reader that keeps up has seen the end of its
   * stream by then. Rejects with `COMMAND_NOT_FOUND`, `COMMAND_NOT_EXECUTABLE`, `EXEC_FAILED`, `CHANNEL_CLOSED`,
   * `PROTOCOL_ERROR`, `ABORTED` or `TIMEOUT`; it needs no handler.
   */
  readonly exit: Promise<ExitStatus>;
  /** Sends a Linux signal, by number, to the process group. Nothing happens once it has ended. */
  kill(signal: number): void;
  /** Changes the size of the terminal. */
  resize(size: TerminalSize): void;
  /** Gives the call up: the guest kills the process group. `exit` rejects with `ABORTED` if it had not ended. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface BootOptions extends WaitOptions {
  /** Called as each stage of the boot ends. */
  readonly onStage?: ((stage: StageDone) => void) | undefined;
}

/** The host's end of the channel to one guest. */
export interface Channel extends AsyncDisposable {
  /**
   * Settles with the agent's version, for messages, when the agent has said hello. Calls need not wait for it.
   * Rejects with `PROTOCOL_ERROR` if the agent speaks another protocol, or with `CHANNEL_CLOSED`; it needs no handler.
   */
  readonly connected: Promise<string>;
  /** Settles, and never rejects, when the channel is gone; with the reason. */
  readonly closed: Promise<MicrovmError>;
  /**
   * Sets the guest up; the first call, made once.
   *
   * @throws MicrovmError `BOOT_FAILED` (the guest's stage in `evidence`), `CHANNEL_CLOSED`, `PROTOCOL_ERROR`, `ABORTED`.
   */
  boot(config: BootConfig, options?: BootOptions): Promise<Ready>;
  /**
   * Starts a process. Never throws: what goes wrong rejects `pid` and `exit`.
   *
   * @param options.signal - gives the call up: the process group is killed, `exit` rejects.
   */
  exec(spec: ExecSpec, options?: WaitOptions): Exec;
  /**
   * Ends everything in the guest and powers it off. Settles when the guest says that all is on disk.
   *
   * @param graceMs - between SIGTERM and SIGKILL for what still runs.
   */
  shutdown(graceMs: number, options?: WaitOptions): Promise<void>;
  /** Closes the channel at once; what is pending rejects with `CHANNEL_CLOSED`. */
  close(): void;
}

/** How a machine ended. */
export interface MachineEnd {
  /** As a shell would say it: 128 + n for signal n. */
  readonly code: number;
  /** Why there is no code, when there is none. */
  readonly error?: string | undefined;
}

/** What a machine does for the clients of its api.sock. A handler that throws answers with the error's code. */
export interface MachineCalls {
  /** Starts a process; its streams must match the request. Disposed of if the client goes away before it ends. */
  exec(spec: ExecSpec): Exec | Promise<Exec>;
  /**
   * Joins the workload. `signal` is aborted when the client has gone or the call is over: then detach.
   * The result's streams are the client's own; disposing of it must not end the workload.
   */
  attach(options: { readonly stdin: boolean }, signal: AbortSignal): Exec | Promise<Exec>;
  /** Settles when the machine has ended. `signal` is aborted when the client no longer waits. */
  wait(signal: AbortSignal): Promise<MachineEnd>;
  /** Settles when the machine has stopped. */
  stop(timeoutMs: number): Promise<void>;
  /** Signals the workload; 9 ends the machine. */
  kill(signal: number): void | Promise<void>;
  /** JSON text. */
  inspect(): string | Promise<string>;
}

/** A machine in another process, through its api.sock. Every call rejects with `CHANNEL_CLOSED` if that process ends. */
export interface MachineClient extends AsyncDisposable {
  readonly closed: Promise<MicrovmError>;
  /** As `Channel.exec`. */
  exec(spec: ExecSpec, options?: WaitOptions): Exec;
  /** Joins the workload: its exit is the workload's; giving it up ends nothing. A stream the workload lacks ends empty. */
  attach(options?: WaitOptions & { readonly stdin?: boolean | undefined }): Exec;
  wait(options?: WaitOptions): Promise<MachineEnd>;
  stop(timeoutMs: number, options?: WaitOptions): Promise<void>;
  kill(signal: number, options?: WaitOptions): Promise<void>;
  inspect(options?: WaitOptions): Promise<string>;
  close(): void;
}

/** A served connection. */
export interface CallServer {
  /** Settles, and never rejects, when the client has gone; with the reason. */
  readonly closed: Promise<MicrovmError>;
  close(): void;
}
