// SPDX-License-Identifier: Apache-2.0
export type { Ready, StageDone } from "./gen/microvm/v1/channel_pb.ts";
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
