// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { DockerRegistry } from "../src/image/testing/docker-registry.ts";
import { best, type Cost, measure } from "./pull/measure.ts";
import { sampleImage } from "./pull/sample-image.ts";
import type { Report } from "./report.ts";

const ROOT = resolve(import.meta.dirname, "..");
const BUILD = join(ROOT, "build", "bench", "pull");
const ROUNDS = 3;
const PEER_ROUNDS = 1;
/** As many layers at a time as the pull downloads. */
const PARALLEL = 4;
const WARM_PULLS = 20;

/**
 * Cold pull of a 590 MB image of 17,000 files in eight gzip layers, from a registry on loopback, as the command line
 * does it; against the least that any client must do with these blobs, and against skopeo and umoci.
 */
export async function run(report: Report): Promise<void> {
  mkdirSync(BUILD, { recursive: true });
  report.step("sample image (made once)");
  const layout = await sampleImage(BUILD);
  report.step("building the package");
  const dist = buildPackage();
  await using registry = await DockerRegistry.start();
  const reference = `${registry.host}/bench:1`;
  report.step("pushing");
  execFileSync("skopeo", [
    "copy",
    "--quiet",
    "--dest-tls-verify=false",
    `oci:${layout}:sample`,
    `docker://${reference}`,
  ]);

  const scratch = mkdtempSync(join(BUILD, "scratch-"));
  try {
    const ours: Cost[] = [];
    const floors: Cost[] = [];
    for (let round = 1; round <= ROUNDS; round += 1) {
      report.step(`round ${round} of ${ROUNDS}: microvm pull, then the floor`);
      ours.push(await coldPull(dist, reference, join(scratch, `cache-${round}`)));
      floors.push(await floor(layout, registry.host));
    }
    const peers: Cost[] = [];
    for (let round = 1; round <= PEER_ROUNDS; round += 1) {
      report.step("skopeo copy + umoci unpack");
      peers.push(await skopeoAndUmoci(reference, join(scratch, `peer-${round}`)));
    }
    summarize(report, best(ours), best(floors), best(peers));
    report.step("warm pulls");
    const warmMs = warmPull(reference, join(scratch, "cache-1"));
    report.figure({ name: "pull.warm", value: warmMs, unit: "ms", target: "≤ 10 ms", ok: warmMs <= 10 });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function summarize(report: Report, ours: Cost, least: Cost, peer: Cost): void {
  const wall = ours.wallMs / least.wallMs;
  const cpu = ours.cpuMs / least.cpuMs;
  const toPeer = ours.wallMs / peer.wallMs;
  const seconds = (name: string, ms: number) => ({ name, value: ms / 1000, unit: "s" });
  report.figure(seconds("pull.floor.wall", least.wallMs));
  report.figure({
    ...seconds("pull.wall", ours.wallMs),
    against: "floor",
    ratio: wall,
    target: "≤ 1.15 ×",
    ok: wall <= 1.15,
  });
  report.figure(seconds("pull.floor.cpu", least.cpuMs));
  report.figure({ ...seconds("pull.cpu", ours.cpuMs), against: "floor", ratio: cpu });
  report.figure({
    name: "pull.rss",
    value: ours.peakRssMiB,
    unit: "MiB",
    target: "< 150 MiB",
    ok: ours.peakRssMiB < 150,
  });
  report.figure(seconds("pull.skopeo-umoci.wall", peer.wallMs));
  const eighth = toPeer <= 1 / 8;
  report.figure({
    ...seconds("pull.wall", ours.wallMs),
    against: "skopeo + umoci",
    ratio: toPeer,
    target: "≤ 1/8 ×",
    ok: eighth,
  });
}

/** The package as it ships; a copy, so that nobody can build it anew while it is measured. */
function buildPackage(): string {
  const dist = join(BUILD, "dist");
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  rmSync(dist, { recursive: true, force: true });
  cpSync(join(ROOT, "dist"), dist, { recursive: true });
  return dist;
}

async function coldPull(dist: string, reference: string, cache: string): Promise<Cost> {
  const env = { ...process.env, MICROVM_CACHE_DIR: cache, DOCKER_CONFIG: "/nonexistent" };
  return measure([process.execPath, join(dist, "cli", "main.js"), "pull", "--quiet", reference], env);
}

/** Download, decompress and hash both sides of each layer, with nothing kept and nothing checked. */
async function floor(layout: string, host: string): Promise<Cost> {
  const blobs = join(layout, "blobs", "sha256");
  const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8")) as {
    manifests: { digest: string }[];
  };
  const manifest = index.manifests[0]?.digest.slice("sha256:".length) ?? "";
  const { layers } = JSON.parse(readFileSync(join(blobs, manifest), "utf8")) as {
    layers: { digest: string; size: number }[];
  };
  const longestFirst = layers.toSorted((a, b) => b.size - a.size).map(({ digest }) => digest);
  const one = `curl -sf http://${host}/v2/bench/blobs/$0 | tee >(sha256sum >/dev/null) | gzip -d | sha256sum >/dev/null`;
  const all = `printf '%s\\n' "$@" | xargs -P ${PARALLEL} -n 1 bash -c '${one}'`;
  return measure(["bash", "-c", all, "floor", ...longestFirst]);
}

async function skopeoAndUmoci(reference: string, dir: string): Promise<Cost> {
  mkdirSync(dir, { recursive: true });
  const copy = `skopeo copy --quiet --src-tls-verify=false docker://${reference} oci:${dir}/oci:x`;
  return measure(["bash", "-c", `${copy} && umoci unpack --image ${dir}/oci:x ${dir}/bundle`]);
}

/** Median time of `pull` for an image that is here, in fresh processes: store opened, image found, files checked. */
function warmPull(reference: string, cache: string): number {
  const script = `
    const { ImageStore } = await import(${JSON.stringify(join(ROOT, "src", "image", "index.ts"))});
    const started = performance.now();
    const store = new ImageStore({ dir: ${JSON.stringify(join(cache, "images"))} });
    await store.pull(${JSON.stringify(reference)}, { policy: "never" });
    console.log(performance.now() - started);`;
  const times = Array.from({ length: WARM_PULLS }, () =>
    Number(execFileSync(process.execPath, ["--input-type=module", "--eval", script], { encoding: "utf8" })),
  );
  return times.toSorted((a, b) => a - b)[WARM_PULLS >> 1] ?? Number.NaN;
}
