// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { flatten } from "./flatten.ts";
import { ErofsReader, type SeenFile } from "./testing/erofs-reader.ts";
import { readHostTree } from "./testing/host-tree.ts";
import { IMPLICIT_DIRECTORIES, layerStack } from "./testing/layers.ts";
import { writeOciLayout } from "./testing/oci-layout.ts";

const skip = reasonToSkip();

function reasonToSkip(): string | false {
  if (process.getuid?.() !== 0) return "needs root: only root's umoci keeps owners and devices";
  for (const [tool, argument] of [
    ["umoci", "--version"],
    ["python3", "--version"],
  ] as const) {
    if (spawnSync(tool, [argument]).status !== 0) return `needs ${tool}: apt-get install ${tool}`;
  }
  return false;
}

describe("flatten and umoci unpack see the same files", { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), "microvm-flatten-"));
  let ours: Map<string, SeenFile>;
  let theirs: Map<string, SeenFile>;

  before(async () => {
    const layers = layerStack();
    const paths = layers.map((layer, index) => {
      const path = join(directory, `${index}.tar`);
      writeFileSync(path, layer);
      return path;
    });
    const image = await flatten({
      layers: paths.map((path, index) => ({ path, sizeBytes: layers[index]!.length })),
      outDir: directory,
    });
    using reader = new ErofsReader(image.rootfsPath, paths);
    ours = reader.readAll();

    writeOciLayout(join(directory, "layout"), layers);
    const bundle = join(directory, "bundle");
    execFileSync("umoci", ["unpack", "--image", `${join(directory, "layout")}:latest`, bundle]);
    theirs = readHostTree(join(bundle, "rootfs"));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("the same paths", () => {
    assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
  });

  for (const property of [
    "type",
    "mode",
    "uid",
    "gid",
    "size",
    "device",
    "target",
    "sha256",
    "xattrs",
    "links",
  ] as const) {
    test(`the same ${property}`, () => {
      for (const [path, file] of theirs) assert.deepEqual(ours.get(path)?.[property], file[property], path);
    });
  }

  test("the same times, to the nanosecond", () => {
    for (const [path, { mtimeSec, mtimeNsec }] of theirs) {
      if (IMPLICIT_DIRECTORIES.includes(path)) continue;
      assert.deepEqual([ours.get(path)?.mtimeSec, ours.get(path)?.mtimeNsec], [mtimeSec, mtimeNsec], path);
    }
  });

  test("the same names are links to the same file", () => {
    assert.deepEqual(groups(ours), groups(theirs));
  });
});

function groups(files: ReadonlyMap<string, SeenFile>): string[] {
  const byInode = Map.groupBy(files, ([, { nid }]) => nid);
  return [...byInode.values()]
    .map((group) =>
      group
        .map(([path]) => path)
        .sort()
        .join(" = "),
    )
    .sort();
}
