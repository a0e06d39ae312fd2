// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The package's root: the nearest folder above with a package.json, from the sources as from what is built. */
const root = (() => {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, "package.json"))) dir = dirname(dir);
  return dir;
})();

/** Whether this is the source, not what was built from it. */
const fromSource = import.meta.filename.endsWith(".ts");

/** Path of a file that ships with the package. */
export function packageFile(path: string): string {
  return join(root, path);
}

/** Path of a program of this package that runs as a process of its own, such as `monitor/main`. */
export function packageProgram(name: string): string {
  return fromSource ? packageFile(`src/${name}.ts`) : packageFile(`dist/${name}.js`);
}

/** The package's own version. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(packageFile("package.json"), "utf8")) as { version: string };
  return version;
}
