// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../../errors.ts";
import type { TarEntry } from "../tar/entry.ts";
import { dir, file, hardlink, merge, symlink, walk } from "../testing/entries.ts";

/** A file of the model: `id` tells inodes apart, `mode` stands for all metadata. */
interface ModelFile {
  readonly kind: "file" | "directory" | "symlink";
  readonly id: number;
  readonly target: string;
  mode: number;
  /** The layer whose entry described it. */
  describedBy: number;
}

/**
 * The merge again, as slow and plain as can be: one map from whole paths to files, and for each layer the set of
 * paths it has made or made something under.
 */
class Model {
  readonly files = new Map<string, ModelFile>([
    ["", { kind: "directory", id: 0, target: "", mode: 0o755, describedBy: -1 }],
  ]);
  #own = new Set<string>();
  #layer = -1;
  #nextId = 1;

  startLayer(): void {
    this.#own = new Set();
    this.#layer += 1;
  }

  apply(entry: TarEntry): void {
    const parts = clean(entry.path);
    const name = parts.pop();
    if (name === undefined) throw new Error("the model has no root entries");
    const parent = this.#resolve(parts);
    if (name.startsWith(".wh.")) {
      const opaque = name === ".wh..wh..opq";
      this.#hide(opaque ? parent : join(parent, name.slice(4)), opaque);
      return;
    }

    const ancestors = parent.split("/").map((_, index, all) => all.slice(0, index + 1).join("/"));
    for (const path of parent === "" ? [] : ancestors) {
      if (this.files.get(path)?.kind !== "directory")
        this.#put(path, { kind: "directory", target: "", mode: 0o755 }, -1);
      this.#own.add(path);
    }
    const path = join(parent, name);
    const there = this.files.get(path);
    if (entry.type === "directory" && there?.kind === "directory") {
      there.mode = entry.mode;
      there.describedBy = this.#layer;
    } else if (entry.type === "hardlink") {
      const linked = this.#linkTarget(entry.linkPath);
      if (linked === undefined || linked.kind === "directory") throw new Error("bad link");
      this.#remove(path);
      this.files.set(path, linked);
    } else if (entry.type === "file" || entry.type === "directory" || entry.type === "symlink") {
      this.#put(path, { kind: entry.type, target: entry.linkPath, mode: entry.mode }, this.#layer);
    }
    this.#own.add(path);
  }

  #put(path: string, fields: Pick<ModelFile, "kind" | "target" | "mode">, describedBy: number): void {
    this.#remove(path);
    this.files.set(path, { ...fields, id: this.#nextId++, describedBy });
  }

  #remove(path: string): void {
    for (const other of [...this.files.keys()]) {
      if (other === path || other.startsWith(`${path}/`)) {
        this.files.delete(other);
        this.#own.delete(other);
      }
    }
  }

  #hide(path: string, opaque: boolean): void {
    if (opaque && this.files.get(path)?.kind !== "directory") return;
    for (const [other, hidden] of [...this.files]) {
      const inside = path === "" ? other !== "" : other.startsWith(`${path}/`);
      if (!inside && (opaque || other !== path)) continue;
      if (!this.#own.has(other)) this.files.delete(other);
      else if (hidden.kind === "directory" && hidden.describedBy !== this.#layer) hidden.mode = 0o755;
    }
  }

  #linkTarget(target: string): ModelFile | undefined {
    const parts = clean(target);
    const name = parts.pop();
    return this.files.get(name === undefined ? "" : join(this.#resolve(parts), name));
  }

  /** Where a directory's path leads: the path with all symlinks taken out. */
  #resolve(parts: readonly string[]): string {
    let path = "";
    let todo = [...parts];
    for (let followed = 0; todo.length > 0; ) {
      const part = todo.shift() ?? "";
      if (part === "" || part === ".") continue;
      if (part === "..") {
        path = path.slice(0, Math.max(0, path.lastIndexOf("/")));
        continue;
      }
      const next = join(path, part);
      const there = this.files.get(next);
      if (there?.kind !== "symlink") {
        path = next;
        continue;
      }
      followed += 1;
      if (followed > 255) throw new Error("loop");
      if (there.target.startsWith("/")) path = "";
      todo = [...there.target.split("/"), ...todo];
    }
    return path;
  }
}

function clean(path: string): string[] {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts;
}

function join(parent: string, name: string): string {
  return parent === "" ? name : `${parent}/${name}`;
}

// Few names, so that entries meet.
const name = fc.constantFrom("a", "b", "-c");
const path = fc
  .array(fc.oneof({ weight: 8, arbitrary: name }, { weight: 1, arbitrary: fc.constant("..") }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join("/"));
const namedPath = fc.tuple(fc.array(name, { maxLength: 3 }), name);
const mode = fc.integer({ min: 0, max: 0o777 });
const target = fc.tuple(fc.constantFrom("", "/", "../"), path).map(([start, rest]) => start + rest);
const anyEntry: fc.Arbitrary<TarEntry> = fc.oneof(
  fc.tuple(namedPath, mode).map(([[parents, last], mode]) => file([...parents, last].join("/"), { mode })),
  fc.tuple(namedPath, mode).map(([[parents, last], mode]) => dir([...parents, last].join("/"), { mode })),
  fc
    .tuple(namedPath, target)
    .map(([[parents, last], target]) => symlink([...parents, last].join("/"), target)),
  fc
    .tuple(namedPath, target)
    .map(([[parents, last], target]) => hardlink([...parents, last].join("/"), target)),
  namedPath.map(([parents, last]) => file([...parents, `.wh.${last}`].join("/"))),
  namedPath.map(([parents]) => file([...parents, ".wh..wh..opq"].join("/"))),
);
const layers = fc.array(fc.array(anyEntry, { maxLength: 12 }), { minLength: 1, maxLength: 4 });

test("random layer stacks merge as a naive model says", () => {
  let merged = 0;
  fc.assert(
    fc.property(layers, (stack) => {
      const expected = attempt(() => {
        const model = new Model();
        for (const entries of stack) {
          model.startLayer();
          for (const entry of entries) model.apply(entry);
        }
        model.files.delete("");
        return summary(
          [...model.files].map(([path, { kind, mode, target, id }]) => ({ path, kind, mode, target, id })),
        );
      });
      const actual = attempt(() => {
        const ids = new Map<unknown, number>();
        const files = [...walk(merge(...stack).root)].map(([path, inode]) => {
          const id = ids.get(inode) ?? ids.size;
          ids.set(inode, id);
          const target = inode.kind === "symlink" ? inode.target : "";
          return { path, kind: inode.kind, mode: inode.metadata.mode, target, id };
        });
        return summary(files);
      });
      assert.deepEqual(actual, expected);
      if (expected !== "refused") merged += 1;
    }),
    { numRuns: Number(process.env.PROPERTY_RUNS ?? 3000) },
  );
  assert.ok(merged > 100, "most stacks are refused: the test says little");
});

function attempt<T>(action: () => T): T | "refused" {
  try {
    return action();
  } catch (error) {
    assert.ok(!(error instanceof MicrovmError) || error.code === "IMAGE_CORRUPT");
    if (!(error instanceof MicrovmError) && !/^(bad link|loop)$/.test((error as Error).message)) throw error;
    return "refused";
  }
}

/** Files by path, with which are links to one another instead of ids. */
function summary(
  files: { path: string; kind: string; mode: number; target: string; id: number }[],
): string[] {
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  return sorted.map(({ path, kind, mode, target, id }) => {
    const first = sorted.find((other) => other.id === id)?.path;
    return `${path} ${kind} ${mode.toString(8)} ${target} ${kind === "directory" ? "" : first}`;
  });
}
