// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const LAYERS = 8;
const FILES = 18_000;
const LARGE_FILES = 2_000;
const BYTES = 575e6;
/** Most files of a distribution are small. */
const SMALL = 64 * 1024;
const LARGEST = 8 * 1024 * 1024;

/**
 * An OCI layout of eight gzip layers with the files of this machine's `/usr`: about 590 MB and 17,000 files when
 * unpacked. Made once; the same for as long as `/usr` is.
 */
export async function sampleImage(dir: string): Promise<string> {
  const layout = join(dir, "layout");
  if (existsSync(join(layout, "index.json"))) return layout;
  rmSync(layout, { recursive: true, force: true });
  const making = `${layout}.making`;
  rmSync(making, { recursive: true, force: true });
  mkdirSync(join(making, "blobs", "sha256"), { recursive: true });

  const groups = split(choose());
  const layers: Descriptor[] = [];
  const diffIds: string[] = [];
  for (const [index, files] of groups.entries()) {
    const tar = join(making, `${index}.tar`);
    execute("tar", ["--create", "--file", tar, "--format=pax", "--no-recursion", "--owner=0", "--group=0", "--mtime=@0",
      "--pax-option=delete=atime,delete=ctime", "--null", "--directory=/", "--files-from=-"], files.join("\0")); // biome-ignore format: one command
    diffIds.push(await digestOfFile(tar));
    execute("gzip", ["--no-name", "-6", tar]);
    layers.push(await addBlob(making, `${tar}.gz`, "application/vnd.oci.image.layer.v1.tar+gzip"));
  }
  const config = {
    architecture: "amd64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: diffIds },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: await addJson(making, config, "application/vnd.oci.image.config.v1+json"),
    layers,
  };
  const root = await addJson(making, manifest, manifest.mediaType);
  const named = { ...root, annotations: { "org.opencontainers.image.ref.name": "sample" } };
  writeFileSync(join(making, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(join(making, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
  renameSync(making, layout);
  return layout;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Found {
  readonly path: string;
  readonly size: number;
}

/** Small files from everywhere, as distributions have them, and as many large ones as make up the bytes. */
function choose(): Found[] {
  const all = ["/usr/bin", "/usr/lib", "/usr/share"].flatMap(walk);
  const large = evenly(
    all.filter(({ size }) => size >= SMALL && size < LARGEST),
    LARGE_FILES,
  );
  const small = evenly(
    all.filter(({ size }) => size < SMALL),
    FILES - LARGE_FILES,
  );
  const chosen = [...small];
  let bytes = small.reduce((sum, { size }) => sum + size, 0);
  for (const file of large) {
    if (bytes + file.size > BYTES) continue;
    bytes += file.size;
    chosen.push(file);
  }
  return chosen.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function evenly(files: readonly Found[], count: number): Found[] {
  const step = files.length / count;
  return step <= 1
    ? [...files]
    : Array.from({ length: count }, (_, n) => files[Math.floor(n * step)] ?? []).flat();
}

function walk(dir: string): Found[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return walk(path);
    return entry.isFile() ? { path: path.slice(1), size: lstatSync(path).size } : [];
  });
}

function split(files: readonly Found[]): string[][] {
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const groups: string[][] = Array.from({ length: LAYERS }, () => []);
  let bytes = 0;
  for (const { path, size } of files) {
    groups[Math.min(LAYERS - 1, Math.floor((bytes / total) * LAYERS))]?.push(path);
    bytes += size;
  }
  return groups;
}

async function addBlob(layout: string, path: string, mediaType: string): Promise<Descriptor> {
  const digest = await digestOfFile(path);
  const { size } = lstatSync(path);
  renameSync(path, join(layout, "blobs", "sha256", digest.slice("sha256:".length)));
  return { mediaType, digest, size };
}

function addJson(layout: string, value: unknown, mediaType: string): Promise<Descriptor> {
  const path = join(layout, "document.json");
  writeFileSync(path, JSON.stringify(value));
  return addBlob(layout, path, mediaType);
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

function execute(command: string, args: readonly string[], input?: string): void {
  const { status, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    ...(input === undefined ? {} : { input }),
  });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}
