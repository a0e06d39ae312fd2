// SPDX-License-Identifier: Apache-2.0
//
// The tree that a guest sees, against the tree that `umoci unpack` as root makes of the same image.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { IMPLICIT_DIRECTORIES, layerStack } from "../../src/image/testing/layers.ts";
import { writeOciLayout } from "../../src/image/testing/oci-layout.ts";
import { cli, IMAGES, ROOT, startRegistry, testHome } from "./harness.ts";

const { env } = testHome();
const registry = await startRegistry();
const work = mkdtempSync(join(tmpdir(), "mv-differential-"));
after(() => rmSync(work, { recursive: true, force: true }));

const treedump = join(work, "treedump");
execFileSync("go", ["build", "-o", treedump, "./internal/treedump"], {
  cwd: join(ROOT, "guest"),
  env: { ...process.env, CGO_ENABLED: "0" },
});

/** What the guest's agent owns: mounted over the image, or written for this VM. */
const MOUNTS = ["/proc", "/sys", "/dev"];
const WRITTEN = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"];
/** Directories in which that happens, and those that no layer describes, have a time of their own. */
const TIMELESS = ["/", "/etc", ...IMPLICIT_DIRECTORIES];

interface Entry {
  readonly path: string;
  readonly mode: string;
  readonly mtime?: string;
}

function comparable(dump: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const line of dump.trim().split("\n")) {
    const entry = JSON.parse(line) as Entry;
    const path = JSON.parse(
      entry.path.replaceAll(/\\x([0-9a-f]{2})/g, "\\u00$1").replaceAll(/\\([av])/g, "?"),
    ) as string;
    if (MOUNTS.includes(path) || WRITTEN.includes(path)) continue;
    entries.set(entry.path, TIMELESS.includes(path) ? { ...entry, mtime: "" } : entry);
  }
  return entries;
}

/** Adds treedump as the topmost layer: inside there may be nothing else to run. */
function withTreedump(layout: string): void {
  const layer = join(work, "treedump.tar");
  execFileSync("tar", ["-C", work, "--owner=0", "--group=0", "--mtime=@0", "-cf", layer, "treedump"]);
  execFileSync("umoci", ["raw", "add-layer", "--image", `${layout}:latest`, layer]);
}

async function compare(layout: string, name: string): Promise<number> {
  withTreedump(layout);
  registry.pushLayout(layout, name);
  const bundle = join(work, `${name}.bundle`);
  execFileSync("umoci", ["unpack", "--image", `${layout}:latest`, bundle]);
  const theirs = comparable(
    execFileSync(treedump, [join(bundle, "rootfs"), ...MOUNTS], { encoding: "utf8", maxBuffer: 1 << 28 }),
  );
  const { code, stdout, stderr } = await cli(env, [
    ...["run", "--rm", "-q", "--user", "0:0", "--entrypoint", "/treedump", `${registry.host}/${name}`],
    ...["/", ...MOUNTS],
  ]);
  assert.equal(code, 0, stderr);
  const ours = comparable(stdout);
  const differences: unknown[] = [];
  for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
    const [our, their] = [ours.get(path), theirs.get(path)];
    if (path === '"/etc"' && !their) continue; // made for those, in an image that has none
    if (JSON.stringify(our) !== JSON.stringify(their)) differences.push({ our, their });
  }
  assert.deepEqual(differences, []);
  return ours.size;
}

describe("the tree that a guest sees is the one that umoci unpacks", () => {
  it("for a Debian image with layers that add, overwrite and delete", async () => {
    const layout = join(work, "demo");
    cpSync(join(IMAGES, "demo"), layout, { recursive: true });
    assert.ok((await compare(layout, "demo")) > 3000);
  });

  it("for a stack of layers with every format, file type and change", async () => {
    const layout = join(work, "every");
    writeOciLayout(layout, layerStack());
    assert.ok((await compare(layout, "every")) > 50);
  });

  it("for an image that umoci itself repacked after each change", async () => {
    const layout = join(work, "repacked");
    cpSync(join(IMAGES, "tiny"), layout, { recursive: true });
    const change = (script: string) => {
      const bundle = join(work, "repacked.change");
      execFileSync("umoci", ["unpack", "--image", `${layout}:latest`, bundle]);
      execFileSync("/bin/bash", ["-ec", script], { cwd: join(bundle, "rootfs") });
      execFileSync("umoci", ["repack", "--image", `${layout}:latest`, bundle]);
      rmSync(bundle, { recursive: true });
    };
    change(`mkdir -p a/b c d; echo 1 > a/b/file; ln a/b/file a/hard; ln -s ../c a/link; mkfifo c/fifo; mknod c/char c 5 1
            mknod c/block b 7 300; install -m 6755 /bin/true d/suid; chown 100000:4294967294 d; setfattr -n user.x -v y a/b/file
            cp /bin/true d/capable; setcap cap_net_raw+ep d/capable; truncate -s 5M d/zeros; touch -d @1.5 d/zeros`);
    change(
      "rm -r a/b; echo now a file > a/b; rm c/fifo; mkdir c/fifo; echo in > c/fifo/x; rm -r d/suid; chmod 700 a",
    );
    change("rm -r c; mkdir c; echo only > c/only; ln -s nowhere d/dangling; echo more >> a/hard");
    assert.ok((await compare(layout, "repacked")) > 150);
  });
});
