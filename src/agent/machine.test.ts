// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { MicrovmError } from "../errors.ts";
import {
  connectMachine,
  type Exec,
  type MachineCalls,
  type MachineClient,
  type MachineEnd,
  serveCalls,
} from "./index.ts";
import { localExec } from "./testing/local-exec.ts";

const textOf = (stream: Readable | undefined) => text(stream ?? assert.fail("no such stream"));
const code = (expected: string) => (error: unknown) =>
  error instanceof MicrovmError && error.code === expected;

describe("the calls of a machine's api.sock", { timeout: 30_000 }, () => {
  let dir: string;
  let socketPath: string;
  let server: Server;
  let client: MachineClient;
  let end: PromiseWithResolvers<MachineEnd>;
  let calls: MachineCalls;
  let said: unknown[];
  let inspection: string;
  let attached: Exec & { detached: boolean };
  const accepted: Socket[] = [];

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "machine-"));
    socketPath = join(dir, "api.sock");
    server = createServer((socket) => {
      accepted.push(socket);
      serveCalls(socket, calls);
    });
    await once(server.listen(socketPath), "listening");
  });
  after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  beforeEach(async () => {
    end = Promise.withResolvers();
    said = [];
    inspection = '{"code":"ABORTED"}';
    calls = {
      exec: (spec) => localExec(spec),
      attach({ stdin }, signal) {
        const stdout = new PassThrough();
        const gone = { detached: false };
        signal.addEventListener("abort", () => {
          attached.detached = true;
        });
        const echo = stdin ? new PassThrough() : undefined;
        echo?.pipe(stdout);
        if (!echo) stdout.end("output");
        const pid = Promise.resolve(7);
        const exit = end.promise.then((ended) => ({ code: ended.code, signal: 0 }));
        attached = {
          ...{ stdin: echo, stdout, stderr: undefined, pid, exit },
          kill: (signal) => said.push(["kill", signal]),
          resize: (size) => said.push(["resize", size.rows, size.columns]),
          [Symbol.asyncDispose]: async () => {},
          ...gone,
        };
        return attached;
      },
      wait: () => end.promise,
      stop: async (timeoutMs) => void said.push(["stop", timeoutMs]),
      kill: (signal) => {
        if (signal === 0) throw new MicrovmError("VM_NOT_RUNNING", "no such machine", { stage: "stop" });
        said.push(["kill", signal]);
      },
      inspect: () => inspection,
    };
    client = await connectMachine(socketPath);
  });
  afterEach(() => {
    client.close();
    for (const socket of accepted.splice(0)) socket.destroy();
  });

  it("runs a process with its three streams and its exit code", async () => {
    const script = "cat; echo oops >&2; exit 3";
    const exec = client.exec({ args: ["/bin/sh", "-c", script], stdin: true, stdout: true, stderr: true });
    exec.stdin?.end("hello\n");
    assert.deepEqual(await Promise.all([textOf(exec.stdout), textOf(exec.stderr)]), ["hello\n", "oops\n"]);
    assert.deepEqual(await exec.exit, { code: 3, signal: 0 });
    assert.ok((await exec.pid) > 1);
  });

  it("gives output to a reader that comes after the exit", async () => {
    const exec = client.exec({ args: ["/bin/echo", "late"], stdout: true });
    await exec.exit;
    assert.equal(await textOf(exec.stdout), "late\n");
  });

  it("passes on why a command did not start", async () => {
    const exec = client.exec({ args: ["/no/such/command"], stdout: true });
    await assert.rejects(exec.exit, code("COMMAND_NOT_FOUND"));
    await assert.rejects(exec.pid, code("COMMAND_NOT_FOUND"));
    assert.equal(await textOf(exec.stdout), "");
  });

  it("signals a process", async () => {
    const exec = client.exec({ args: ["/bin/sleep", "60"] });
    await exec.pid;
    exec.kill(15);
    assert.deepEqual(await exec.exit, { code: 0, signal: 15 });
  });

  it("ends a process whose client gave it up or went away", async () => {
    for (const leave of [(exec: Exec) => exec[Symbol.asyncDispose](), () => client.close()]) {
      let served: Exec | undefined;
      calls.exec = (spec) => {
        served = localExec(spec);
        return served;
      };
      const exec = client.exec({ args: ["/bin/cat"], stdin: true, stdout: true });
      await exec.pid;
      await leave(exec);
      assert.equal((await served?.exit)?.signal, 9);
      await assert.rejects(exec.exit);
      client = await connectMachine(socketPath);
    }
  });

  it("rejects with ABORTED, and ends the process, when the caller's signal aborts", async () => {
    const abort = new AbortController();
    const exec = client.exec({ args: ["/bin/sleep", "60"], stdout: true }, { signal: abort.signal });
    await exec.pid;
    abort.abort();
    await assert.rejects(exec.exit, code("ABORTED"));
  });

  it("carries bulk output unharmed past a slow reader", async () => {
    const size = 8 << 20;
    const exec = client.exec({ args: ["/usr/bin/head", "-c", String(size), "/dev/zero"], stdout: true });
    let total = 0;
    for await (const chunk of exec.stdout ?? assert.fail()) {
      total += (chunk as Buffer).length;
      if (total % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.equal(total, size);
    assert.equal((await exec.exit).code, 0);
  });

  it("joins the workload, and leaves it running when it lets go", async () => {
    const exec = client.attach({ stdin: true });
    assert.equal(await exec.pid, 7);
    exec.stdin?.write("typed");
    const [chunk] = await once(exec.stdout ?? assert.fail(), "data");
    assert.equal(String(chunk), "typed");
    exec.kill(2);
    exec.resize({ rows: 40, columns: 132 });
    await client.inspect();
    assert.deepEqual(said, [
      ["kill", 2],
      ["resize", 40, 132],
    ]);
    await exec[Symbol.asyncDispose]();
    await client.inspect();
    assert.equal(attached.detached, true);
  });

  it("ends the streams the workload does not have, with the workload", async () => {
    const exec = client.attach();
    end.resolve({ code: 5 });
    assert.deepEqual(await exec.exit, { code: 5, signal: 0 });
    assert.equal(await textOf(exec.stdout), "output");
    assert.equal((await buffer(exec.stderr ?? assert.fail())).length, 0);
  });

  it("waits for the end and says why there is no code", async () => {
    end.resolve({ code: 0, error: "the monitor lost it" });
    assert.deepEqual(await client.wait(), { code: 0, error: "the monitor lost it" });
  });

  it("gives up a wait on the caller's signal and leaves the rest alone", async () => {
    await assert.rejects(client.wait({ signal: AbortSignal.timeout(5) }), code("TIMEOUT"));
    end.resolve({ code: 137 });
    assert.deepEqual(await client.wait(), { code: 137 });
  });

  it("stops, kills and inspects", async () => {
    await client.stop(1500);
    await client.kill(9);
    assert.deepEqual(said, [
      ["stop", 1500],
      ["kill", 9],
    ]);
    assert.equal(await client.inspect(), '{"code":"ABORTED"}');
  });

  it("takes an answer for what it is, even if its text is the code of an error", async () => {
    inspection = "TIMEOUT";
    assert.equal(await client.inspect(), inspection);
  });

  it("answers with the error of a handler that throws", async () => {
    await assert.rejects(client.kill(0), code("VM_NOT_RUNNING"));
  });

  it("rejects everything pending when the machine goes away", async () => {
    const exec = client.exec({ args: ["/bin/sleep", "60"], stdout: true });
    await exec.pid;
    const wait = client.wait();
    for (const socket of accepted) socket.destroy();
    await assert.rejects(wait, code("CHANNEL_CLOSED"));
    await assert.rejects(exec.exit, code("CHANNEL_CLOSED"));
    assert.equal((await client.closed).code, "CHANNEL_CLOSED");
    await assert.rejects(client.inspect(), code("CHANNEL_CLOSED"));
  });

  it("says that a machine is not running when nobody serves its socket", async () => {
    await assert.rejects(connectMachine(join(dir, "none.sock")), code("VM_NOT_RUNNING"));
  });

  const silent: [string, (socket: Socket) => void, string][] = [
    ["says nothing, as one that is stopped", () => {}, "TIMEOUT"],
    ["hangs up, as one that ends", (socket) => void socket.destroy(), "VM_NOT_RUNNING"],
    ["ends without having read", (socket) => void setTimeout(() => socket.destroy(), 50), "VM_NOT_RUNNING"],
    ["hangs up inside its Hello", (socket) => void socket.end(Buffer.of(0, 0)), "VM_NOT_RUNNING"],
    ["speaks something else", (socket) => void socket.write("HTTP/1.1 400 Bad Request"), "PROTOCOL_ERROR"],
  ];
  for (const [what, serve, expected] of silent) {
    it(`tells how a machine is that ${what}: ${expected}`, async () => {
      const path = join(dir, "silent.sock");
      const sockets: Socket[] = [];
      const owner = createServer({ pauseOnConnect: true }, (socket) => {
        sockets.push(socket);
        socket.on("error", () => {});
        serve(socket);
      });
      await once(owner.listen(path), "listening");
      try {
        const started = performance.now();
        await assert.rejects(connectMachine(path), (error) => {
          assert.ok(error instanceof MicrovmError);
          assert.equal(error.code, expected, error.message);
          assert.equal(error.stage, expected === "PROTOCOL_ERROR" ? error.stage : "state");
          if (expected === "TIMEOUT") assert.equal(error.message, `${path} does not answer`);
          return true;
        });
        assert.ok(performance.now() - started < 5000);
        await assert.rejects(connectMachine(path, { signal: AbortSignal.abort() }), code("ABORTED"));
      } finally {
        for (const socket of sockets) socket.destroy();
        owner.close();
      }
    });
  }

  it("does not wait for a machine whose process is stopped", async () => {
    const path = join(dir, "stopped.sock");
    const script = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => console.log())`;
    const owner = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(owner.stdout, "data");
      owner.kill("SIGSTOP");
      await assert.rejects(connectMachine(path), code("TIMEOUT"));
    } finally {
      owner.kill("SIGKILL");
    }
  });
});
