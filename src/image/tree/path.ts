// SPDX-License-Identifier: Apache-2.0
import { corrupt, overLimit, printable } from "../image-errors.ts";
import type { ImageLimits } from "../limits.ts";
import type { ByteString } from "../tar/entry.ts";
import type { Directory, Inode } from "./inode.ts";

/** The components of an entry's path, cleaned as text: no empty ones, no `.`, and `..` that stops at the root. */
export function cleanPath(path: ByteString): ByteString[] {
  const components: ByteString[] = [];
  for (const component of path.split("/")) {
    if (component === "" || component === ".") continue;
    if (component === "..") components.pop();
    else components.push(component);
  }
  return components;
}

/** Where a path leads: the deepest directory that exists, and the directories still missing below it. */
export interface Resolved {
  readonly directory: Directory;
  readonly missing: readonly ByteString[];
}

/** Follows paths in a tree as a process would that has the tree's root as its root directory. */
export class PathResolver {
  readonly #root: Directory;
  readonly #limits: ImageLimits;
  #steps = 0;

  constructor(root: Directory, limits: ImageLimits) {
    this.#root = root;
    this.#limits = limits;
  }

  /**
   * Follows `components`: symlinks at every place, absolute ones from the tree's own root, and no `..` out of it.
   * From the first component that is missing, or is neither directory nor symlink, the rest is only text.
   *
   * @throws MicrovmError IMAGE_CORRUPT for a symlink loop, IMAGE_LIMIT when the paths of the image take for ever
   */
  directory(components: readonly ByteString[]): Resolved {
    let directory = this.#root;
    const missing: ByteString[] = [];
    let symlinks = 0;
    // Reversed: the next component is at the end.
    const pending = components.toReversed();
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      this.#countStep();
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (missing.length > 0) missing.pop();
        else directory = directory.parent ?? directory;
        continue;
      }
      const inode = missing.length > 0 ? undefined : directory.children.get(name)?.inode;
      if (inode?.kind === "directory") {
        directory = inode;
      } else if (inode?.kind === "symlink") {
        symlinks += 1;
        if (symlinks > this.#limits.maxSymlinks) {
          throw corrupt(`too many levels of symlinks in ${printable(components.join("/"))}`);
        }
        if (inode.target.startsWith("/")) directory = this.#root;
        for (const component of inode.target.split("/").reverse()) pending.push(component);
      } else {
        missing.push(name);
      }
    }
    return { directory, missing };
  }

  /** What `path` names, following symlinks in all of its components but the last. */
  inode(path: ByteString): Inode | undefined {
    const components = cleanPath(path);
    const name = components.pop();
    if (name === undefined) return this.#root;
    const { directory, missing } = this.directory(components);
    return missing.length > 0 ? undefined : directory.children.get(name)?.inode;
  }

  #countStep(): void {
    this.#steps += 1;
    if (this.#steps > this.#limits.maxPathSteps) {
      throw overLimit(`more than ${this.#limits.maxPathSteps} path components to follow`);
    }
  }
}
