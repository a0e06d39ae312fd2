// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { cli, IMAGES, startCli, startRegistry, testHome, untilGone, vmmPids } from "./harness.ts";

const { env, dir } = testHome();
const registry = await startRegistry();
registry.pushLayout(join(IMAGES, "tiny"), "tiny:latest");
const tiny = `${registry.host}/tiny`;

const mv = (...args: string[]) => cli(env, args);
const out = async (...args: string[]) => (await mv(...args)).stdout;
const json = async (...args: string[]) => JSON.parse(await out(...args));
const SERVE = "trap 'echo stopping; exit 7' TERM; echo ready; while :; do sleep 0.1; done";

describe("a detached VM", () => {
  it("outlives its caller, and is reached by exec, logs, ps, inspect, stop and wait from other processes", async () => {
    const { code, stdout, stderr } = await mv(
      "run",
      "-d",
      "-q",
      "--name",
      "web",
      "-e",
      "A=1",
      "-l",
      "k=v",
      tiny,
      "sh",
      "-c",
      SERVE,
    );
    assert.equal(code, 0, stderr);
    const id = stdout.trim();
    assert.match(id, /^[0-9a-f]{16}$/);

    assert.equal(await out("exec", "web", "sh", "-c", "echo $A; hostname"), `1\n${id.slice(0, 12)}\n`);
    assert.equal((await mv("exec", "web", "sh", "-c", "exit 3")).code, 3);
    assert.equal((await mv("exec", "web", "nope")).code, 127);
    assert.equal((await cli(env, ["exec", "-i", id.slice(0, 6), "cat"], "piped\n")).stdout, "piped\n");
    assert.equal(
      await out(
        "exec",
        "-u",
        "nobody",
        "-w",
        "/tmp",
        "-e",
        "B=2",
        "web",
        "sh",
        "-c",
        "id -un; pwd; echo $A$B",
      ),
      "nobody\n/tmp\n12\n",
    );

    const [listed] = await json("ps", "--json");
    assert.deepEqual([listed.name, listed.state, listed.labels], ["web", "running", { k: "v" }]);
    const [inspected] = await json("inspect", "web");
    assert.match(inspected.live.acceleration, /^(kvm|tcg)$/);
    assert.equal(await out("logs", "web"), "ready\n");

    const waiting = startCli(env, ["wait", "web"], "");
    const following = startCli(env, ["logs", "-f", "web"], "");
    await once(following.child.stdout!, "data");
    assert.equal((await mv("stop", "web")).code, 0);
    assert.equal((await waiting.result).stdout, "7\n");
    assert.equal((await following.result).stdout, "ready\nstopping\n");

    assert.equal(await out("ps", "-q"), "");
    const [ended] = await json("ps", "-a", "--json");
    assert.deepEqual([ended.state, ended.exitCode], ["exited", 7]);
    assert.equal(await out("logs", "web"), "ready\nstopping\n");
    assert.equal(await out("wait", "web"), "7\n");
    assert.equal((await mv("exec", "web", "true")).code, 125);
    assert.equal((await mv("rm", "web")).code, 0);
    assert.equal(await out("ps", "-aq"), "");
    assert.ok(await untilGone(dir, 1000));
  });

  it("is stopped with its StopSignal first and SIGKILL after the timeout", async () => {
    await mv(
      "run",
      "-d",
      "-q",
      "--name",
      "stubborn",
      "--stop-signal",
      "USR1",
      tiny,
      "sh",
      "-c",
      "trap 'echo usr1' USR1; trap '' TERM; echo ready; while :; do sleep 0.1; done",
    );
    const begin = performance.now();
    assert.equal((await mv("stop", "-t", "2s", "stubborn")).code, 0);
    const took = performance.now() - begin;
    assert.ok(took >= 2000 && took < 20_000, `${took} ms`);
    assert.equal(await out("logs", "stubborn"), "ready\nusr1\n");
    assert.equal(await out("wait", "stubborn"), "137\n");
    await mv("rm", "stubborn");
  });

  it("is not removed while it runs, but with -f", async () => {
    await mv("run", "-d", "-q", "--name", "busy", tiny, "sleep", "1000");
    const { code, stderr } = await mv("rm", "busy");
    assert.equal(code, 125);
    assert.match(stderr, /is running/);
    assert.equal((await mv("rm", "-f", "busy")).code, 0);
    assert.ok(await untilGone(dir, 1000));
  });

  it("keeps its name to itself", async () => {
    await mv("run", "-d", "-q", "--name", "taken", tiny, "sleep", "1000");
    const { code, stderr } = await mv("run", "-d", "-q", "--name", "taken", tiny, "true");
    assert.equal(code, 125);
    assert.match(stderr, /belongs to another VM/);
    assert.equal((await mv("kill", "taken")).code, 0);
    assert.equal(await out("wait", "taken"), "137\n");
    await mv("rm", "taken");
  });

  it("gets signals by `kill -s`", async () => {
    await mv("run", "-d", "-q", "--name", "signalled", tiny, "sh", "-c", SERVE);
    assert.equal((await mv("kill", "-s", "TERM", "signalled")).code, 0);
    assert.equal(await out("wait", "signalled"), "7\n");
    await mv("rm", "signalled");
  });

  it("is told to be lost, not running, when its monitor was killed; nothing of it runs on", async () => {
    await mv("run", "-d", "-q", "--name", "orphan", tiny, "sleep", "1000");
    const [pid] = vmmPids(dir);
    assert.ok(pid);
    const monitor = parentOf(pid);
    process.kill(monitor, "SIGKILL");
    assert.ok(await untilGone(dir, 2000));
    const [lost] = await json("ps", "-a", "--json");
    assert.equal(lost.state, "lost");
    assert.equal((await mv("rm", "orphan")).code, 0);
  });

  it("is unreachable, not lost, when its api.sock is gone: nothing of it is removed but by force", async () => {
    const { stdout } = await mv("run", "-d", "-q", "--rm", "--name", "cut", tiny, "sleep", "1000");
    rmSync(join(dir, "run", `${stdout.trim()}.sock`));
    const [cut] = await json("ps", "-a", "--json");
    assert.equal(cut.state, "unreachable");
    assert.equal(vmmPids(dir).length, 1);
    assert.equal((await mv("rm", "cut")).code, 125);
    assert.equal((await mv("rm", "-f", "cut")).code, 0);
    assert.ok(await untilGone(dir, 2000));
    assert.equal(await out("ps", "-aq"), "");
  });

  it("does not hang `ps` when its owner is stopped", async () => {
    await mv("run", "-d", "-q", "--rm", "--name", "held", tiny, "sleep", "1000");
    const [pid] = vmmPids(dir);
    const monitor = parentOf(pid ?? 0);
    process.kill(monitor, "SIGSTOP");
    const [held] = await json("ps", "-a", "--json");
    process.kill(monitor, "SIGCONT");
    assert.equal(held.state, "unreachable");
    assert.equal((await mv("rm", "-f", "held")).code, 0);
  });

  it("leaves no directory behind when its caller is killed while it starts", async () => {
    const starting = startCli(env, ["run", "-q", tiny, "sleep", "1000"], "");
    while (vmmPids(dir).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    starting.child.kill("SIGKILL");
    await starting.result;
    assert.ok(await untilGone(dir, 2000));
    for (const id of (await out("ps", "-aq")).split("\n").filter(Boolean)) await mv("rm", id);
    assert.deepEqual(readdirSync(join(dir, "data", "vms")), []);
  });

  it("removes itself at its end with --rm", async () => {
    const { stdout } = await mv("run", "-d", "-q", "--rm", "--name", "gone", tiny, "sleep", "1000");
    const waiting = startCli(env, ["wait", stdout.trim()], "");
    assert.equal((await mv("kill", "gone")).code, 0);
    await waiting.result;
    assert.equal(await out("ps", "-aq"), "");
  });

  it("tells why it did not start", async () => {
    const { code, stderr } = await mv("run", "-d", "-q", "--rm", tiny, "no-such-command");
    assert.equal(code, 127);
    assert.match(stderr, /executable file not found/);
  });

  it("gives exec a terminal, and several at once do not disturb each other", async () => {
    await mv("run", "-d", "-q", "--rm", "--name", "shared", tiny, "sleep", "1000");
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        mv("exec", "shared", "sh", "-c", `echo ${index}; exit ${index}`),
      ),
    );
    assert.deepEqual(
      results.map(({ code, stdout }) => [code, stdout]),
      Array.from({ length: 8 }, (_, index) => [index, `${index}\n`]),
    );
    assert.equal(await out("exec", "-t", "shared", "sh", "-c", "test -t 1 && echo terminal"), "terminal\r\n");
    await mv("rm", "-f", "shared");
  });
});

describe("images", () => {
  it("are listed, kept from removal while a VM uses them, and removed", async () => {
    await mv("pull", "-q", tiny);
    const [image] = await json("images", "--json");
    assert.match(image.id, /^sha256:[0-9a-f]{64}$/);
    await mv("run", "-d", "-q", "--name", "user", tiny, "sleep", "1000");
    const refused = await mv("rmi", tiny);
    assert.equal(refused.code, 125);
    await mv("rm", "-f", "user");
    assert.equal((await mv("rmi", tiny)).code, 0);
    assert.deepEqual(await json("images", "--json"), []);
  });
});

describe("version and doctor", () => {
  it("say what there is", async () => {
    assert.match(await out("version"), /^ts-microvm \d/);
    const checks = await json("doctor", "--json");
    assert.ok(
      checks.every((check: { ok: boolean }) => check.ok),
      JSON.stringify(checks),
    );
  });
});

function parentOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ")[1]);
}
