// SPDX-License-Identifier: Apache-2.0
export { connectAgent, openAgent } from "./channel.ts";
export type { Ready, StageDone } from "./gen/microvm/v1/channel_pb.ts";
export { connectMachine } from "./machine.ts";
export { serveCalls } from "./serve.ts";
export type {
  BootConfig,
  BootOptions,
  CallServer,
  Channel,
  Exec,
  ExecSpec,
  ExitStatus,
  MachineCalls,
  MachineClient,
  MachineEnd,
  TerminalSize,
  WaitOptions,
} from "./types.ts";
