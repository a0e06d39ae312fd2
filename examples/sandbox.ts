// SPDX-License-Identifier: Apache-2.0
//
// Runs a script that nobody has read, in a VM of its own: no network, 256 MiB, ten seconds.
//
//   node examples/sandbox.ts debian:12 'echo $((6 * 7)); id -u'
import { ExecError, MicrovmError, run } from "../src/index.ts";

const [image = "debian:12", script = "echo hello from $(uname -sr)"] = process.argv.slice(2);
try {
  await using vm = await run(image, { command: null, remove: true, memoryMiB: 256 });
  const { stdout } = await vm.exec("sh", ["-s"], { input: script, user: "65534:65534", timeoutMs: 10_000 });
  process.stdout.write(stdout);
} catch (error) {
  if (error instanceof ExecError) process.stderr.write(`exit code ${error.exitCode}: ${error.stderr}`);
  else if (error instanceof MicrovmError) process.stderr.write(`${error.message}\n${error.hint ?? ""}\n`);
  else throw error;
  process.exitCode = 1;
}
