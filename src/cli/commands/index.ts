// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { doctor } from "./doctor.ts";
import { exec } from "./exec.ts";
import { images } from "./images.ts";
import { inspect } from "./inspect.ts";
import { kill } from "./kill.ts";
import { logs } from "./logs.ts";
import { ps } from "./ps.ts";
import { pull } from "./pull.ts";
import { rm } from "./rm.ts";
import { rmi } from "./rmi.ts";
import { run } from "./run.ts";
import { stop } from "./stop.ts";
import { version } from "./version.ts";
import { wait } from "./wait.ts";

/** Every command: a new one is a file here and a line below. */
export const COMMANDS: readonly ((program: Command) => void)[] = [
  run,
  exec,
  ps,
  logs,
  stop,
  kill,
  rm,
  wait,
  inspect,
  pull,
  images,
  rmi,
  doctor,
  version,
];
