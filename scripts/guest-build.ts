// SPDX-License-Identifier: Apache-2.0
//
// Builds the guest agent for every architecture and packs each into an initramfs:
// build/guest/linux-{amd64,arm64}/{agent,initramfs.cpio}. Reproducible, and skipped when nothing has changed.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, writeCpio } from "./cpio.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const guest = join(root, "guest");
const architectures = ["amd64", "arm64"] as const;

const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
const wanted = process.argv.slice(2);
for (const arch of architectures) {
  if (wanted.length === 0 || wanted.includes(arch)) build(arch);
}

function build(arch: string): void {
  const out = join(root, "build/guest", `linux-${arch}`);
  const agent = join(out, "agent");
  const initramfs = join(out, "initramfs.cpio");
  const stamp = join(out, "inputs.sha256");
  const inputs = hashInputs(arch);
  if (
    existsSync(agent) &&
    existsSync(initramfs) &&
    existsSync(stamp) &&
    readFileSync(stamp, "utf8") === inputs
  ) {
    report(arch, agent, initramfs, "unchanged");
    return;
  }
  mkdirSync(out, { recursive: true });
  compile(arch, `${agent}.new`);
  renameSync(`${agent}.new`, agent);
  writeFileSync(`${initramfs}.new`, writeCpio(contents(readFileSync(agent))));
  renameSync(`${initramfs}.new`, initramfs);
  writeFileSync(stamp, inputs);
  report(arch, agent, initramfs, "built");
}

function compile(arch: string, output: string): void {
  const flags = ["-trimpath", "-buildvcs=false", "-ldflags", `-s -w -buildid= -X main.version=${version}`];
  const { status, error } = spawnSync("go", ["build", ...flags, "-o", output, "./cmd/agent"], {
    cwd: guest,
    stdio: "inherit",
    env: {
      ...process.env,
      CGO_ENABLED: "0",
      GOOS: "linux",
      GOARCH: arch,
      GOFLAGS: "-mod=readonly",
      GOWORK: "off",
    },
  });
  if (error) throw new Error(`go build: ${error.message}`, { cause: error });
  if (status !== 0) throw new Error(`go build (${arch}): exit status ${status}`);
}

/** The kernel opens /dev/console for /init before /init can mount anything. */
function contents(agent: Uint8Array): CpioEntry[] {
  return [
    { type: "directory", path: "dev", mode: 0o755 },
    { type: "character", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "directory", path: "proc", mode: 0o755 },
    { type: "directory", path: "sys", mode: 0o755 },
    { type: "directory", path: "lower", mode: 0o700 },
    { type: "directory", path: "upper", mode: 0o700 },
    { type: "directory", path: "root", mode: 0o700 },
    { type: "file", path: "init", mode: 0o755, data: agent },
  ];
}

function hashInputs(arch: string): string {
  const hash = createHash("sha256").update(`${arch}\n${version}\n`);
  const own = ["scripts/guest-build.ts", "scripts/cpio.ts"].map((path) => join(root, path));
  const go = readdirSync(guest, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /(\.go|go\.mod|go\.sum)$/.test(entry.name))
    .filter((entry) => !entry.name.endsWith("_test.go"))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.startsWith(join(guest, "tools")));
  for (const path of [...own, ...go.sort()]) {
    hash.update(`${path.slice(root.length)}\n`).update(readFileSync(path));
  }
  const { stdout } = spawnSync("go", ["env", "GOVERSION"], { cwd: guest });
  return `${hash.update(stdout ?? "").digest("hex")}\n`;
}

function report(arch: string, agent: string, initramfs: string, what: string): void {
  const kib = (path: string): string => `${Math.ceil(statSync(path).size / 1024)} KiB`;
  console.log(`linux-${arch}: ${what}: agent ${kib(agent)}, initramfs ${kib(initramfs)}`);
}
