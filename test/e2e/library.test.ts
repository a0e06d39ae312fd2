// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { after, describe, it } from "node:test";
import {
  ExecError,
  getVm,
  listVms,
  MicrovmError,
  type NetworkProvider,
  type RunEvent,
  run,
} from "../../src/index.ts";
import { IMAGES, startRegistry, testHome, untilGone, vmmPids } from "./harness.ts";

const { env, dir } = testHome();
Object.assign(process.env, env);
const registry = await startRegistry();
registry.pushLayout(join(IMAGES, "tiny"), "tiny:latest");
const tiny = `${registry.host}/tiny`;

const code = (expected: string) => (error: unknown) =>
  error instanceof MicrovmError && error.code === expected;

describe("run", () => {
  it("starts no workload with command null, and execs as often as asked", async () => {
    await using vm = await run(tiny, { command: null, remove: true, env: { A: "1" } });
    const { stdout, exitCode } = await vm.exec("sh", ["-c", "echo $A$B; pwd"], {
      env: { B: "2" },
      cwd: "/tmp",
    });
    assert.deepEqual([stdout, exitCode], ["12\n/tmp\n", 0]);
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) => vm.exec("echo", [`${index}`])),
    );
    assert.deepEqual(
      results.map((result) => result.stdout),
      Array.from({ length: 20 }, (_, index) => `${index}\n`),
    );
  });

  it("has execs that fail as promises do, with all that the result has", async () => {
    await using vm = await run(tiny, { command: null, remove: true });
    await assert.rejects(vm.exec("sh", ["-c", "echo out; echo why >&2; exit 3"]), (error) => {
      assert.ok(error instanceof ExecError && error.code === "EXEC_FAILED");
      assert.deepEqual([error.exitCode, error.stdout, error.stderr], [3, "out\n", "why\n"]);
      assert.match(error.message, /sh: exit code 3: why/);
      return true;
    });
    assert.equal((await vm.exec("false", [], { reject: false })).exitCode, 1);
    await assert.rejects(vm.exec("nope"), code("COMMAND_NOT_FOUND"));
    await assert.rejects(vm.exec("true", [], { user: "nobody-here" }), code("EXEC_FAILED"));
    await assert.rejects(vm.exec("sleep", ["1000"], { timeoutMs: 300 }), code("TIMEOUT"));
    await assert.rejects(vm.exec("sleep", ["1000"], { signal: AbortSignal.timeout(300) }), code("TIMEOUT"));
    assert.throws(() => vm.exec("true", [], { tyop: 1 } as never), code("INVALID_OPTION"));
    assert.equal(
      (await vm.exec("ps", ["-o", "comm"])).stdout.includes("sleep"),
      false,
      "what was given up runs on",
    );
  });

  it("has execs that are handles: input, streams, signals, a limit to what is kept", async () => {
    await using vm = await run(tiny, { command: null, remove: true });
    assert.equal((await vm.exec("cat", [], { input: "typed" })).stdout, "typed");
    const child = vm.exec("cat", [], { stdin: true, buffer: false });
    const seen: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => seen.push(chunk));
    child.stdin?.write("one ");
    child.stdin?.end("two");
    await child;
    assert.equal(Buffer.concat(seen).toString(), "one two");
    const sleeper = vm.exec("sleep", ["1000"], { reject: false });
    assert.ok((await sleeper.pid) > 1);
    sleeper.kill("SIGTERM");
    assert.deepEqual(await sleeper.then(({ exitCode, signal }) => [exitCode, signal]), [143, "SIGTERM"]);
    const much = await vm.exec("head", ["-c", "1000000", "/dev/zero"], { maxBuffer: 1000 });
    assert.deepEqual([much.stdout.length, much.truncated], [1000, true]);
  });

  it("gives the workload's streams with stdio pipe, and its exit code", async () => {
    const vm = await run(tiny, {
      command: ["sh", "-c", "read x; echo got $x; exit 5"],
      stdin: true,
      stdio: "pipe",
      remove: true,
    });
    vm.stdin?.end("line\n");
    const [output] = await Promise.all([vm.stdout?.toArray(), vm.wait()]);
    assert.equal(Buffer.concat(output as Buffer[]).toString(), "got line\n");
    assert.equal(await vm.wait(), 5);
  });

  it("reports what it does, stage by stage", async () => {
    const events: RunEvent[] = [];
    await using vm = await run(tiny, { command: null, remove: true, onEvent: (event) => events.push(event) });
    assert.ok(vm);
    const stages = events.flatMap((event) => (event.type === "stage" ? [event.stage.name] : []));
    for (const stage of ["preflight", "runtime", "image", "spawn", "kernel", "boot"])
      assert.ok(stages.includes(stage), stage);
  });

  it("ends the VM when its handle is disposed of, and leaves nothing with remove", async () => {
    {
      await using vm = await run(tiny, { command: ["sleep", "1000"], remove: true });
      assert.equal((await vm.inspect()).state, "running");
    }
    assert.ok(await untilGone(dir, 1000));
    assert.deepEqual(await listVms(), []);
  });

  it("lets go of a detached VM when its handle is disposed of, and finds it again", async () => {
    {
      await using vm = await run(tiny, { command: ["sleep", "1000"], name: "free", detach: true });
      assert.equal((await vm.exec("echo", ["hi"])).stdout, "hi\n");
    }
    await using again = await getVm("free");
    assert.equal((await again.exec("echo", ["again"])).stdout, "again\n");
    await again.remove({ force: true });
    await assert.rejects(getVm("free"), code("VM_NOT_FOUND"));
  });

  it("calls its post-boot hooks in order, and stops the VM when one throws", async () => {
    const calls: string[] = [];
    const hook = (name: string) => async () => void calls.push(name);
    await using vm = await run(tiny, { command: null, remove: true, postBoot: [hook("one"), hook("two")] });
    assert.ok(vm);
    assert.deepEqual(calls, ["one", "two"]);
    const failing = run(tiny, {
      command: null,
      remove: true,
      postBoot: [
        () => {
          throw new Error("not today");
        },
      ],
    });
    await assert.rejects(
      failing,
      (error) => error instanceof MicrovmError && error.stage === "hooks" && /not today/.test(error.message),
    );
  });

  it("gives up when its signal is aborted, at any moment of the start", async () => {
    const aborted = AbortSignal.abort();
    await assert.rejects(run(tiny, { remove: true, signal: aborted }), code("ABORTED"));
    for (const stage of ["preflight", "image", "prepare", "spawn", "kernel", "boot"]) {
      const abort = new AbortController();
      const started = run(tiny, {
        command: ["sleep", "1000"],
        remove: true,
        signal: abort.signal,
        onEvent: (event) => {
          if (event.type === "stage" && event.stage.name === stage) abort.abort();
        },
      });
      await assert.rejects(started, code("ABORTED"), stage);
    }
    assert.ok(await untilGone(dir, 1000));
    assert.deepEqual(readdirSync(join(dir, "data", "vms")), []);
  });

  it("says how far it came when time runs out", async () => {
    await assert.rejects(run(tiny, { command: null, remove: true, bootTimeoutMs: 10 }), (error) => {
      assert.ok(error instanceof MicrovmError && error.code === "BOOT_TIMEOUT" && error.stage === "boot");
      assert.match(error.message, /not ready after 10 ms, last stage: kernel/);
      return true;
    });
  });

  it("gives up in time on a guest that falls silent while it starts", async () => {
    const stopped: number[] = [];
    const started = run(tiny, {
      command: ["true"],
      remove: true,
      bootTimeoutMs: 4000,
      onEvent: (event) => {
        if (event.type !== "stage" || event.stage.name !== "boot") return;
        for (const pid of vmmPids(dir)) {
          process.kill(pid, "SIGSTOP");
          stopped.push(pid);
        }
      },
    });
    await assert.rejects(started, code("BOOT_TIMEOUT"));
    assert.equal(stopped.length, 1);
    assert.ok(await untilGone(dir, 2000));
  });

  it("keeps the time limit of an exec when the guest no longer answers, and its own when it is killed", async () => {
    await using vm = await run(tiny, { command: ["sleep", "1000"], remove: true, timeoutMs: 6000 });
    const [pid] = vmmPids(dir);
    assert.ok(pid);
    process.kill(pid, "SIGSTOP");
    await assert.rejects(vm.exec("true", [], { timeoutMs: 500 }), code("TIMEOUT"));
    assert.equal(await vm.wait(), 124);
  });

  it("ends well when its network provider does not", async () => {
    const { provider } = answeringNetwork();
    const network: NetworkProvider = { ...provider, stop: () => Promise.reject(new Error("cannot stop")) };
    const vm = await run(tiny, { command: ["true"], network, remove: true });
    assert.equal(await vm.wait(), 0);
    const refusing: NetworkProvider = {
      ...provider,
      start: async (signal) => ({
        ...(await provider.start(signal)),
        connect() {
          throw new Error("no wire");
        },
      }),
    };
    await assert.rejects(run(tiny, { command: ["true"], network: refusing, remove: true }), /no wire/);
    assert.ok(await untilGone(dir, 1000));
  });

  it("settles when a detached start is aborted", async () => {
    const abort = new AbortController();
    const started = run(tiny, {
      command: null,
      detach: true,
      signal: abort.signal,
      onEvent: (event) => {
        if (event.type === "stage" && event.stage.name === "monitor spawn") abort.abort();
      },
    });
    await assert.rejects(started, code("ABORTED"));
    assert.ok(await untilGone(dir, 3000));
  });

  it("tells of a VM that was lost while it ran", async () => {
    const vm = await run(tiny, { command: ["sleep", "1000"] });
    const [pid] = vmmPids(dir);
    assert.ok(pid);
    process.kill(pid, "SIGKILL");
    await assert.rejects(vm.wait(), code("VMM_EXITED"));
    assert.equal((await vm.inspect()).state, "exited");
    await vm.remove();
  });

  it("refuses what cannot be handed to another process", async () => {
    await assert.rejects(
      run(tiny, { detach: true, network: answeringNetwork().provider }),
      code("INVALID_OPTION"),
    );
  });
});

describe("a network provider", () => {
  it("is wired to a NIC that the guest has configured by itself", async () => {
    const { provider, seen } = answeringNetwork();
    await using vm = await run(tiny, { command: null, remove: true, network: provider });
    const { stdout } = await vm.exec("sh", [
      "-c",
      "ip addr show eth0; ip route; ip -6 route; cat /etc/resolv.conf",
    ]);
    assert.match(stdout, /mtu 9000/);
    assert.match(stdout, /inet 10\.9\.8\.2\/24/);
    assert.match(stdout, /inet6 fd00::2\/64/);
    assert.match(stdout, /default via 10\.9\.8\.1/);
    assert.match(stdout, /default via fd00::1/);
    assert.match(stdout, /nameserver 10\.9\.8\.1/);
    assert.match(stdout, /search example\.test/);
    await vm.exec("ping", ["-c", "1", "-w", "1", "10.9.8.1"], { reject: false });
    assert.ok(
      seen.some((frame) => frame.readUInt16BE(12) === 0x0806),
      "no ARP request reached the provider",
    );
    assert.ok(
      seen.some((frame) => frame.readUInt16BE(12) === 0x0800 && frame[23] === 1),
      "no echo request did",
    );
  });
});

describe("the host", () => {
  it("never gets a file of an image: only what the store and the machine name themselves", async () => {
    await using vm = await run(tiny, { command: null });
    const names = new Set(
      listFiles(dir).map((path) => path.replace(/.*\//, "").replace(/[0-9a-f]{16,}/g, "HASH")),
    );
    for (const name of ["busybox", "passwd", "sh", "etc", "bin"]) assert.equal(names.has(name), false, name);
    for (const path of listFiles(join(dir, "data"))) assert.equal(statSync(path).mode & 0o077, 0, path);
    await vm.remove({ force: true });
  });
});

after(async () => {
  for (const vm of await listVms()) await (await getVm(vm.id)).remove({ force: true });
});

function listFiles(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => join(file.parentPath, file.name));
}

/** A host at the other end of the wire that answers ARP, and remembers all it saw. */
function answeringNetwork(): { provider: NetworkProvider; seen: Buffer[] } {
  const seen: Buffer[] = [];
  const mac = Buffer.from("5a94efe40cee", "hex");
  const answer = (wire: Duplex, request: Buffer) => {
    const reply = Buffer.from(request);
    request.copy(reply, 0, 6, 12);
    mac.copy(reply, 6);
    reply.writeUInt16BE(2, 20);
    mac.copy(reply, 22);
    request.copy(reply, 28, 38, 42);
    request.copy(reply, 32, 22, 32);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(reply.length);
    wire.write(Buffer.concat([length, reply]));
  };
  const provider: NetworkProvider = {
    name: "answering",
    start: async () => ({
      mac: "02:4b:72:75:6e:00",
      guest: {
        addresses: ["10.9.8.2/24", "fd00::2/64"],
        gateways: ["10.9.8.1", "fd00::1"],
        mtu: 9000,
        nameservers: ["10.9.8.1"],
        search: ["example.test"],
      },
      connect(wire) {
        let pending = Buffer.alloc(0);
        wire.on("error", () => {});
        wire.on("data", (chunk: Buffer) => {
          pending = Buffer.concat([pending, chunk]);
          while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE()) {
            const frame = pending.subarray(4, 4 + pending.readUInt32BE());
            pending = pending.subarray(4 + frame.length);
            seen.push(Buffer.from(frame));
            if (frame.readUInt16BE(12) === 0x0806 && frame.readUInt16BE(20) === 1) answer(wire, frame);
          }
        });
      },
    }),
    stop: async () => {},
  };
  return { provider, seen };
}
