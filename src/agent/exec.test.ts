// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { MicrovmError } from "../errors.ts";
import { type Channel, connectAgent, type Exec, type ExecSpec } from "./index.ts";
import { nativeAgent, type PeerProcess, spawnPeer } from "./testing/go-peer.ts";

const agent = nativeAgent();
const skip = "missing" in agent ? agent.missing : false;
const code = (expected: string) => (error: unknown) =>
  error instanceof MicrovmError && error.code === expected;
const given = <T>(value: T | undefined): T => value ?? assert.fail("no such stream");

describe("processes in a guest: the agent itself, run on this host", { skip, timeout: 60_000 }, () => {
  let peer: PeerProcess;
  let channel: Channel;

  beforeEach(async () => {
    peer = spawnPeer("path" in agent ? agent.path : "", ["--native", "3"]);
    channel = await connectAgent(peer.socket);
  });
  afterEach(() => {
    channel.close();
    peer[Symbol.dispose]();
  });

  const env = ["PATH=/usr/bin:/bin"];
  const sh = (script: string, spec: ExecSpec = {}): Exec =>
    channel.exec({ args: ["sh", "-c", script], env, stdout: true, ...spec });
  const textOf = (stream: Readable | undefined) => text(given(stream));

  it("ends with the exit code", async () => {
    for (const expected of [0, 1, 42, 255]) {
      assert.deepEqual(await sh(`exit ${expected}`).exit, { code: expected, signal: 0 });
    }
  });

  it("ends with the signal that ended it", async () => {
    assert.deepEqual(await sh("kill -9 $$").exit, { code: 0, signal: 9 });
    const exec = sh("sleep 60");
    await exec.pid;
    exec.kill(15);
    assert.deepEqual(await exec.exit, { code: 0, signal: 15 });
    exec.kill(15); // nothing happens
  });

  it("keeps stdout and stderr apart", async () => {
    const exec = sh("echo out; echo err >&2", { stderr: true });
    assert.deepEqual(await Promise.all([textOf(exec.stdout), textOf(exec.stderr)]), ["out\n", "err\n"]);
  });

  it("has no streams but those asked for", async () => {
    const exec = channel.exec({ args: ["sh", "-c", "read line; echo $?"], env });
    assert.deepEqual([exec.stdin, exec.stdout, exec.stderr], [undefined, undefined, undefined]);
    assert.deepEqual(await exec.exit, { code: 0, signal: 0 });
  });

  it("gives environment, directory and arguments as they are", async () => {
    const args = ["sh", "-c", 'printf "%s|" "$A" "$PWD" "$@"', "sh", "", "two words", "é\n"];
    const exec = channel.exec({ args, env: [...env, "A=x=y"], cwd: "/usr", stdout: true });
    assert.equal(await textOf(exec.stdout), "x=y|/usr||two words|é\n|");
  });

  it("ends stdin at the half-close and goes on writing", async () => {
    const exec = channel.exec({ args: ["sha256sum"], env, stdin: true, stdout: true });
    const data = randomBytes(5_000_000);
    given(exec.stdin).end(data);
    const sum = createHash("sha256").update(data).digest("hex");
    assert.equal(await textOf(exec.stdout), `${sum}  -\n`);
    assert.deepEqual(await exec.exit, { code: 0, signal: 0 });
  });

  it("closes stdin when the process ends without reading it", async () => {
    const exec = channel.exec({ args: ["true"], env, stdin: true });
    const stdin = given(exec.stdin);
    const closed = once(stdin, "close");
    stdin.write(Buffer.alloc(10_000_000));
    await exec.exit;
    await closed;
    assert.equal(stdin.destroyed, true);
  });

  it("passes bytes both ways unharmed", async () => {
    const exec = channel.exec({ args: ["cat"], env, stdin: true, stdout: true });
    const data = randomBytes(20_000_000);
    given(exec.stdin).end(data);
    assert.equal(Buffer.compare(await buffer(given(exec.stdout)), data), 0);
  });

  it("keeps output for a reader that comes after the exit", async () => {
    const exec = sh("head -c 100000 /dev/zero; echo err >&2", { stderr: true });
    assert.equal((await exec.exit).code, 0);
    await delay(10);
    assert.equal((await buffer(given(exec.stdout))).length, 100_000);
    assert.equal(await textOf(exec.stderr), "err\n");
  });

  it("has ended the streams of readers that keep up when it resolves exit", async () => {
    for (let round = 0; round < 50; round++) {
      const exec = sh("echo one; echo two >&2", { stderr: true });
      const ended: string[] = [];
      given(exec.stdout)
        .on("end", () => ended.push("stdout"))
        .resume();
      given(exec.stderr)
        .on("end", () => ended.push("stderr"))
        .resume();
      await exec.exit;
      assert.deepEqual(ended.sort(), ["stderr", "stdout"]);
    }
  });

  it("stalls a process whose output is not read, in bounded memory, and loses nothing", async () => {
    const size = 100_000_000;
    const exec = sh(`head -c ${size} /dev/zero`);
    const before = process.memoryUsage().rss;
    let peak = 0;
    let total = 0;
    await delay(300);
    for await (const chunk of given(exec.stdout) as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total % 64 === 0) await delay(1);
      peak = Math.max(peak, process.memoryUsage().rss);
    }
    assert.equal(total, size);
    assert.ok(peak - before < 60 << 20, `RSS grew by ${(peak - before) >> 20} MiB`);
    assert.equal((await exec.exit).code, 0);
  });

  it("lets stdout flow while nobody reads stderr", async () => {
    const exec = sh("(head -c 5000000 /dev/zero >&2) & head -c 5000000 /dev/zero; wait", { stderr: true });
    let total = 0;
    for await (const chunk of given(exec.stdout) as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total === 5_000_000) break; // not its end: the shell still waits for the other one
    }
    assert.equal((await buffer(given(exec.stderr))).length, 5_000_000);
    assert.equal((await exec.exit).code, 0);
  });

  it("ends a writer whose output is closed", async () => {
    const exec = channel.exec({ args: ["yes"], env, stdout: true });
    await once(given(exec.stdout), "data");
    given(exec.stdout).destroy();
    assert.deepEqual(await exec.exit, { code: 0, signal: 13 });
  });

  it("runs fifty at a time", async () => {
    const results = Array.from({ length: 50 }, async (_, index) => {
      const exec = sh(`cat; echo ${index} >&2; exit ${index}`, { stdin: true, stderr: true });
      given(exec.stdin).end(`in ${index}`);
      const [out, err, { code }] = await Promise.all([textOf(exec.stdout), textOf(exec.stderr), exec.exit]);
      return [out, err, code];
    });
    const expected = Array.from({ length: 50 }, (_, index) => [`in ${index}`, `${index}\n`, index]);
    assert.deepEqual(await Promise.all(results), expected);
  });

  it("gives a terminal of the size asked for, and resizes it", async () => {
    const script = "trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done";
    const exec = sh(script, { stdin: true, stderr: true, tty: { rows: 33, columns: 101 } });
    assert.equal(exec.stderr, undefined);
    const output = given(exec.stdout).setEncoding("utf8");
    const [first] = await once(output, "data");
    assert.equal(first, "33 101\r\n");
    exec.resize({ rows: 50, columns: 132 });
    const [second] = await once(output, "data");
    assert.equal(second, "50 132\r\n");
    assert.equal((await exec.exit).code, 0);
  });

  const failures: [string, ExecSpec, string][] = [
    ["no such command", { args: ["no-such-command"], env }, "COMMAND_NOT_FOUND"],
    ["no such path", { args: ["/no/such/command"], env }, "COMMAND_NOT_FOUND"],
    ["not executable", { args: ["/etc/passwd"], env }, "COMMAND_NOT_EXECUTABLE"],
    ["no such user", { args: ["true"], env, user: "nobody-of-this-name" }, "EXEC_FAILED"],
    ["no such directory", { args: ["true"], env, cwd: "/no/such/directory" }, "EXEC_FAILED"],
    ["no arguments", {}, "COMMAND_NOT_FOUND"],
    ["arguments beyond the protocol's limit", { args: ["x".repeat(5 << 20)] }, "INVALID_OPTION"],
  ];
  for (const [name, spec, expected] of failures) {
    it(`rejects with ${expected}: ${name}`, async () => {
      const exec = channel.exec({ ...spec, stdin: true, stdout: true });
      await assert.rejects(exec.exit, code(expected));
      await assert.rejects(exec.pid, code(expected));
      assert.equal(given(exec.stdin).destroyed, true);
    });
  }

  it("kills the process when it is given up: by dispose, by a signal, before or after the start", async () => {
    const given = async (end: (exec: Exec) => unknown, signal?: AbortSignal) => {
      const exec = channel.exec(
        { args: ["sh", "-c", "echo $$; exec sleep 60"], env, stdout: true },
        { signal },
      );
      const pid = await exec.pid;
      await end(exec);
      await assert.rejects(exec.exit, code("ABORTED"));
      for (let tries = 0; isAlive(pid); tries++) {
        assert.ok(tries < 1000, "still alive");
        await delay(5);
      }
    };
    await given((exec) => exec[Symbol.asyncDispose]());
    const abort = new AbortController();
    await given(() => abort.abort(), abort.signal);
    const late = channel.exec({ args: ["sleep", "60"], env }, { signal: abort.signal });
    await assert.rejects(late.exit, code("ABORTED"));
    assert.equal(await textOf(sh("echo fine").stdout), "fine\n");
  });

  it("rejects what is pending with CHANNEL_CLOSED when the agent dies", async () => {
    const exec = sh("sleep 60", { stdin: true });
    await exec.pid;
    peer.process.kill("SIGKILL");
    await assert.rejects(exec.exit, code("CHANNEL_CLOSED"));
    assert.equal((await channel.closed).code, "CHANNEL_CLOSED");
    assert.ok(code("CHANNEL_CLOSED")(given(exec.stdout).errored));
    await assert.rejects(sh("true").exit, code("CHANNEL_CLOSED"));
    await assert.rejects(channel.shutdown(0), code("CHANNEL_CLOSED"));
  });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false; // gone
  }
}
