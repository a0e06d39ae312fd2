// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { cli, IMAGES, ROOT, startCli, startRegistry, testHome, untilGone, vmmPids } from "./harness.ts";

const { env, dir } = testHome();
const registry = await startRegistry();
registry.pushLayout(join(IMAGES, "tiny"), "tiny:latest");
registry.pushLayout(join(IMAGES, "demo"), "demo:latest");
const tiny = `${registry.host}/tiny`;
const demo = `${registry.host}/demo:latest`;

const runTiny = (...args: string[]) => cli(env, ["run", "--rm", "-q", tiny, ...args]);
const runWith = (flags: string[], ...args: string[]) =>
  cli(env, ["run", "--rm", "-q", ...flags, tiny, ...args]);
const sh = (script: string, ...flags: string[]) => runWith(flags, "sh", "-c", script);

describe("microvm run", () => {
  it("boots a multi-layer Debian image from a registry, and shows the merged tree", async () => {
    const { code, stdout } = await cli(env, [
      ...["run", "--rm", "-q", demo, "sh", "-c"],
      ". /etc/os-release; echo $ID; uname -s; cat hello; ls /opt/demo; id -u; echo $DEMO; stat -c %a setuid",
    ]);
    assert.equal(
      stdout,
      "debian\nLinux\nhello from the top layer\nhard\nhello\nlink\nsetuid\n0\nimage\n4755\n",
    );
    assert.equal(code, 0);
  });

  for (const [what, script, expected] of [
    ["0", "exit 0", 0],
    ["42", "exit 42", 42],
    ["128 + n of the signal that killed it", "kill -9 $$", 137],
    ["128 + 15 of SIGTERM", "kill -15 $$", 143],
  ] as const) {
    it(`exits with ${what}`, async () => assert.equal((await sh(script)).code, expected));
  }

  it("exits with 127 when there is no such command, and says so", async () => {
    const { code, stderr } = await runTiny("no-such-command");
    assert.match(stderr, /no-such-command.*executable file not found/);
    assert.equal(code, 127);
  });

  it("exits with 126 when the file cannot be executed", async () => {
    assert.equal((await runTiny("/etc/passwd")).code, 126);
  });

  it("keeps stdout and stderr apart", async () => {
    const { stdout, stderr } = await sh("echo out; echo err >&2");
    assert.deepEqual([stdout, stderr], ["out\n", "err\n"]);
  });

  it("pipes its standard input through with -i, and none without", async () => {
    assert.equal((await cli(env, ["run", "--rm", "-q", "-i", tiny, "cat"], "hi\n")).stdout, "hi\n");
    assert.equal((await cli(env, ["run", "--rm", "-q", tiny, "cat"], "hi\n")).stdout, "");
  });

  it("carries 10 MB of standard input intact", async () => {
    const data = Buffer.alloc(10_000_000, "0123456789abcdef\n");
    const { stdout } = await cli(env, ["run", "--rm", "-q", "-i", tiny, "md5sum"], data);
    assert.equal(stdout.split(" ")[0], createHash("md5").update(data).digest("hex"));
  });

  it("carries 100 MB of standard output intact, in bounded memory", async () => {
    const child = spawn(
      "/bin/bash",
      [
        "-c",
        `"${process.execPath}" --expose-gc "${ROOT}/dist/cli/main.js" run --rm -q ${tiny} sh -c 'yes 0123456789abcde | head -c 100000000' | md5sum
         exit \${PIPESTATUS[0]}`,
      ],
      { env, stdio: ["ignore", "pipe", "inherit"] },
    );
    let peakKiB = 0;
    const sum: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => sum.push(chunk));
    const watching = setInterval(() => {
      peakKiB = Math.max(peakKiB, rssOfCli());
    }, 100);
    const [code] = (await once(child, "close")) as [number];
    clearInterval(watching);
    const expected = createHash("md5").update(Buffer.alloc(100_000_000, "0123456789abcde\n")).digest("hex");
    assert.equal(Buffer.concat(sum).toString().split(" ")[0], expected);
    assert.equal(code, 0);
    assert.ok(peakKiB > 0 && peakKiB < 200 * 1024, `peak RSS ${peakKiB} KiB`);
  });

  it("gives a real terminal of the right size with -t", async () => {
    // script(1) makes the terminal; stty inside the VM sees the size it was given.
    const command = `stty rows 31 cols 97; "${process.execPath}" "${ROOT}/dist/cli/main.js" run --rm -q -it ${tiny} sh -c 'stty size; tty; test -t 0 && echo terminal'`;
    const output = execFileSync("script", ["-qec", command, "/dev/null"], {
      env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    assert.match(output.toString(), /31 97\r\n\/dev\/pts\/\d+\r\nterminal\r\n/);
  });

  it("refuses -it when the input is not a terminal", async () => {
    const { code, stderr } = await cli(env, ["run", "--rm", "-it", tiny, "true"]);
    assert.equal(code, 125);
    assert.match(stderr, /not a terminal/);
  });

  it("runs as the user that -u names, with that user's groups and home", async () => {
    const { stdout } = await sh("id -un; id -u; id -Gn; echo $HOME", "-u", "nobody");
    assert.equal(stdout, "nobody\n65534\nnogroup staff\n/\n");
  });

  it("runs as a numeric user and group that the image does not know", async () => {
    assert.equal((await sh("id -u; id -g", "-u", "1000:2000")).stdout, "1000\n2000\n");
  });

  it("starts in the directory that -w names, made if missing", async () => {
    assert.equal((await sh("pwd", "-w", "/made/here")).stdout, "/made/here\n");
  });

  it("sets the environment: -e with and without a value, and --env-file", async () => {
    const file = join(dir, "vars.env");
    writeFileSync(file, "# a comment\nFROM_FILE=a=b \nPASSED\n");
    const { stdout } = await cli({ ...env, PASSED: "from here" }, [
      ...["run", "--rm", "-q", "-e", "OWN=a\nexport B=2", "-e", "PASSED", "-e", "ABSENT", "--env-file", file],
      ...[tiny, "sh", "-c", 'echo "$OWN|$PASSED|$FROM_FILE|${B-unset}|${ABSENT-unset}"'],
    ]);
    assert.equal(stdout, "a\nexport B=2|from here|a=b |unset|unset\n");
  });

  it("carries 200 environment variables of 1 KB", async () => {
    const value = "x".repeat(1000);
    const flags = Array.from({ length: 200 }, (_, index) => [
      "-e",
      `VARIABLE_${index}=${index}${value}`,
    ]).flat();
    const { stdout } = await runWith(flags, "sh", "-c", "env | grep -c ^VARIABLE_; echo ${VARIABLE_199}");
    assert.equal(stdout, `200\n199${value}\n`);
  });

  it("keeps the environment out of the kernel's and the VMM's command line", async () => {
    const running = startCli(env, [
      "run",
      "--rm",
      "-q",
      "-i",
      "-e",
      "SECRET=xyzzy-plugh",
      tiny,
      "sh",
      "-c",
      "cat /proc/cmdline; cat",
    ]);
    const [chunk] = (await once(running.child.stdout!, "data")) as [Buffer];
    assert.doesNotMatch(chunk.toString(), /xyzzy/);
    assert.equal(vmmPids("xyzzy").length, 0);
    running.child.stdin?.end();
    assert.equal((await running.result).code, 0);
  });

  it("replaces the entrypoint and sets the hostname, CPUs and memory", async () => {
    const { stdout } = await runWith(
      ["--entrypoint", "sh", "--hostname", "box", "--cpus", "2", "--memory", "256m"],
      "-c",
      "hostname; grep -c ^processor /proc/cpuinfo; awk '/MemTotal/{print ($2 < 262144)}' /proc/meminfo",
    );
    assert.equal(stdout, "box\n2\n1\n");
  });

  it("gives a writable disk of the size asked for", async () => {
    const size = `df -m / | awk 'NR==2{print ($2 > 900 && $2 < 1100)}'`;
    const { stdout } = await sh(`${size}; echo x > /new && cat /new`, "--disk-size", "1g");
    assert.equal(stdout, "1\nx\n");
  });

  it("mounts tmpfs where --tmpfs says", async () => {
    const { stdout } = await sh(
      "grep ' /scratch ' /proc/mounts | cut -d' ' -f3; touch /scratch/x && echo written",
      "--tmpfs",
      "/scratch:size=8m",
    );
    assert.equal(stdout, "tmpfs\nwritten\n");
  });

  it("mounts the root read-only with --read-only, but what --tmpfs names", async () => {
    const { stdout } = await sh(
      "touch /x 2>/dev/null || echo refused; touch /etc/x 2>/dev/null || echo refused; touch /w/x && echo written",
      "--read-only",
      "--tmpfs",
      "/w",
    );
    assert.equal(stdout, "refused\nrefused\nwritten\n");
  });

  it("has no network interface but loopback", async () => {
    assert.equal(
      (await sh("ls /sys/class/net; ping -c1 -w2 127.0.0.1 >/dev/null && echo up")).stdout,
      "lo\nup\n",
    );
  });

  it("kills the command after --timeout and exits with 124", async () => {
    assert.equal((await sh("sleep 1000", "--timeout", "1s")).code, 124);
  });

  it("ends with the main process, whatever it left behind", async () => {
    const { code, stdout } = await sh("sleep 1000 & echo done");
    assert.deepEqual([code, stdout], [0, "done\n"]);
  });

  it("never shows one VM what another wrote", async () => {
    const write = (mark: string) =>
      sh(
        `echo ${mark} > /etc/mark; cat /etc/mark; ls /etc/*.other 2>/dev/null; touch /etc/${mark}.other; sync`,
      );
    const [one, two] = await Promise.all([write("one"), write("two")]);
    assert.deepEqual([one.stdout, two.stdout], ["one\n", "two\n"]);
    assert.equal((await sh("ls /etc/mark 2>/dev/null || echo clean")).stdout, "clean\n");
  });

  it("reports an unknown option, a bad value and a bad reference without a stack", async () => {
    for (const args of [
      ["--no-such-option"],
      ["--cpus", "0"],
      ["--memory", "lots"],
      ["--user", ""],
      ["--name", "-x"],
    ]) {
      const { code, stderr } = await runWith(args, "true");
      assert.equal(code, 125, `${args}: ${stderr}`);
      assert.doesNotMatch(stderr, /\n\s+at /);
    }
    const { code, stderr } = await cli(env, ["run", "UPPER/case:!", "true"]);
    assert.equal(code, 125);
    assert.doesNotMatch(stderr, /\n\s+at /);
  });

  it("leaves nothing behind with --rm", async () => {
    assert.equal((await cli(env, ["ps", "-aq"])).stdout, "");
    assert.deepEqual(readdirSync(join(dir, "data", "vms")), []);
    assert.deepEqual(vmmPids(dir), []);
  });

  it("leaves no VMM behind when it is killed with SIGKILL", async () => {
    const running = startCli(env, ["run", "--rm", "-q", tiny, "sh", "-c", "echo up; sleep 1000"]);
    await once(running.child.stdout!, "data");
    assert.equal(vmmPids(dir).length, 1);
    running.child.kill("SIGKILL");
    await running.result;
    assert.ok(await untilGone(dir, 2000), "the VMM still runs");
    assert.equal(
      (await cli(env, ["ps", "-aq"])).stdout,
      "",
      "what --rm promised is done by the next command",
    );
    assert.deepEqual(readdirSync(join(dir, "data", "vms")), []);
  });

  it("passes Ctrl-C on to the workload and exits as it does", async () => {
    const running = startCli(env, [
      "run",
      "--rm",
      "-q",
      tiny,
      "sh",
      "-c",
      "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done",
    ]);
    await once(running.child.stdout!, "data");
    running.child.kill("SIGINT");
    const { code, stdout } = await running.result;
    assert.deepEqual([code, stdout], [9, "up\ncaught\n"]);
  });

  it("takes a time limit of weeks for what it is", async () => {
    assert.equal((await sh("sleep 1", "--timeout", "400h")).code, 0);
    assert.equal((await sh("true", "--timeout", "1000h")).code, 125);
  });

  it("ends, and tidies up, when nobody reads its output any more", async () => {
    const command = `"${process.execPath}" "${ROOT}/dist/cli/main.js" run --rm -q ${tiny} yes | head -n 1`;
    assert.equal(execFileSync("/bin/bash", ["-c", command], { env, encoding: "utf8" }), "y\n");
    assert.ok(await untilGone(dir, 2000));
    assert.deepEqual(readdirSync(join(dir, "data", "vms")), []);
  });

  it("gives the start up on Ctrl-C", async () => {
    const running = startCli(env, ["run", "--rm", "-q", tiny, "sleep", "1000"]);
    while (vmmPids(dir).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    running.child.kill("SIGINT");
    assert.equal((await running.result).code, 130);
    assert.ok(await untilGone(dir, 2000));
  });

  it("says at once, with the stage and the console, why a VM whose init dies did not come up", async () => {
    const initramfs = join(dir, "dying.cpio");
    execFileSync("/bin/bash", [
      "-c",
      `set -e; t=$(mktemp -d); printf 'int main(void){return 3;}' | gcc -static -x c - -o $t/init; cd $t; echo init | cpio -o -H newc --quiet > ${initramfs}; rm -r $t`,
    ]);
    const { code, stderr } = await cli({ ...env, MICROVM_INITRAMFS: initramfs }, [
      "run",
      "--rm",
      "-q",
      tiny,
      "true",
    ]);
    assert.equal(code, 125);
    assert.match(stderr, /ended during stage kernel/);
    assert.match(stderr, /reboot: Failed to start orderly reboot/);
    assert.doesNotMatch(stderr, /\n\s+at /);
  });
});

function rssOfCli(): number {
  const ps = execFileSync("ps", ["-eo", "rss=,args="], { encoding: "utf8" });
  const line = ps.split("\n").find((text) => text.includes("dist/cli/main.js run") && !text.includes("bash"));
  return Number(line?.trim().split(/\s+/)[0] ?? 0);
}
