// SPDX-License-Identifier: Apache-2.0
import { statSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { MicrovmError, messageOf, toMicrovmError } from "../errors.ts";
import { privateDir } from "../internal/dirs.ts";
import { fetchLibrary } from "./fetch-library.ts";
import { readKernelBundle } from "./kernel-bundle.ts";
import { kernelFileParts } from "./kernel-file.ts";
import { libraryNames, systemLibraryDirs } from "./library-dirs.ts";
import { type PinnedLibrary, RUNTIME_PINS, type RuntimePins } from "./pins.ts";
import type { LibraryInfo, LibrarySource, LocateRuntimeOptions, Runtime } from "./runtime.ts";
import { checkFile, digestOf, publishFile } from "./verified-file.ts";

/** No libkrunfw is nearly as large. */
const MAX_LIBRARY_BYTES = 256 << 20;

/**
 * Finds libkrunfw and the kernel in it, and libkrun if asked: in the directory named, among the system's libraries, in
 * the cache, and at last in an npm package pinned by version and hash.
 *
 * Everything under the cache is named by its content, appears by rename and is hashed on every use, so concurrent
 * first runs, torn writes and later changes are all harmless: what is not as it should be is made anew.
 *
 * @throws MicrovmError `RUNTIME_NOT_FOUND`, `RUNTIME_CORRUPT`, `UNSUPPORTED_PLATFORM`, `INSECURE_DIRECTORY`, `ABORTED`.
 */
export async function locateRuntime(options: LocateRuntimeOptions): Promise<Runtime> {
  try {
    const search = new Search(options);
    const kernel = await search.kernel();
    if (!options.libkrun) return kernel;
    return { ...kernel, libkrun: await search.libkrun() };
  } catch (error) {
    throw toMicrovmError(error, "runtime", options.signal);
  }
}

class Search {
  readonly #options: LocateRuntimeOptions;
  readonly #root: string;
  readonly #explicitDir: string | undefined;

  constructor(options: LocateRuntimeOptions) {
    this.#options = options;
    privateDir(options.cacheDir);
    this.#root = privateDir(join(options.cacheDir, "runtime"));
    this.#explicitDir = options.libraryDir || process.env.MICROVM_LIBKRUN_DIR || undefined;
  }

  async kernel(): Promise<{ kernel: string; libkrunfw: LibraryInfo }> {
    if (this.#explicitDir !== undefined) {
      const path = this.#firstLibrary("libkrunfw", [this.#explicitDir]);
      if (!path) throw notFound(`${this.#explicitDir} has no libkrunfw`);
      return { kernel: await this.#kernelOf(path), libkrunfw: this.#found("libkrunfw", path, "explicit") };
    }
    // A macOS library is no ELF file; the kernel comes out of the Linux one there.
    const dirs = process.platform === "linux" ? this.#systemDirs() : [];
    const system = this.#firstLibrary("libkrunfw", dirs);
    if (system) {
      try {
        return {
          kernel: await this.#kernelOf(system),
          libkrunfw: this.#found("libkrunfw", system, "system"),
        };
      } catch (error) {
        if (!(error instanceof MicrovmError) || error.code !== "RUNTIME_CORRUPT") throw error;
        this.#options.onEvent?.({ type: "rejected", path: system, reason: error.message });
      }
    }
    return await this.#pinnedKernel();
  }

  async libkrun(): Promise<LibraryInfo> {
    if (this.#explicitDir !== undefined) {
      const path = this.#firstLibrary("libkrun", [this.#explicitDir]);
      if (path) return this.#found("libkrun", path, "explicit");
    }
    const system = this.#firstLibrary("libkrun", this.#systemDirs());
    if (system) return this.#found("libkrun", system, "system");
    const pin = this.#pins().libkrun;
    if (!pin) {
      throw notFound(
        `no prebuilt libkrun for ${process.platform}-${process.arch}`,
        "Install libkrun 1.17 or later.",
      );
    }
    return (await this.#pinned("libkrun", pin)).info;
  }

  async #pinnedKernel(): Promise<{ kernel: string; libkrunfw: LibraryInfo }> {
    const pins = this.#pins();
    const pin = pins.libkrunfw;
    const kernel = this.#kernelPath(pins.kernel.sha256);
    const state = await checkFile(kernel, pins.kernel);
    if (state === "good") {
      const info = { path: this.#libraryPath(pin), source: "pinned", version: pin.libraryVersion } as const;
      return { kernel, libkrunfw: info };
    }
    if (state === "corrupt")
      this.#options.onEvent?.({ type: "rejected", path: kernel, reason: "content has changed" });
    const { info, bytes } = await this.#pinned("libkrunfw", pin);
    const parts = kernelFileParts(readKernelBundle(bytes ?? (await readFile(info.path))));
    if (digestOf(parts) !== pins.kernel.sha256) {
      throw new MicrovmError("RUNTIME_CORRUPT", `${info.path}: its kernel is not the pinned one`, {
        stage: "runtime",
      });
    }
    await this.#publishKernel(kernel, parts);
    return { kernel, libkrunfw: info };
  }

  /** The kernel of a library that nobody pinned: made from the library each time, written only when it is new. */
  async #kernelOf(library: string): Promise<string> {
    try {
      const bundle = readKernelBundle(await readBounded(library));
      if (bundle.machine !== process.arch) {
        throw new MicrovmError("RUNTIME_CORRUPT", `is for ${bundle.machine}`, { stage: "runtime" });
      }
      const parts = kernelFileParts(bundle);
      const sha256 = digestOf(parts);
      const path = this.#kernelPath(sha256);
      if ((await checkFile(path, { sha256 })) !== "good") await this.#publishKernel(path, parts);
      return path;
    } catch (error) {
      throw toMicrovmError(error, "runtime").within(library);
    }
  }

  async #publishKernel(path: string, parts: readonly Uint8Array[]): Promise<void> {
    await publishFile(path, parts);
    this.#options.onEvent?.({ type: "kernel", path });
  }

  /** From the cache if it is there and good, else fetched into it. `bytes` are there when they were fetched. */
  async #pinned(library: string, pin: PinnedLibrary): Promise<{ info: LibraryInfo; bytes?: Uint8Array }> {
    const path = this.#libraryPath(pin);
    const info = { path, source: "pinned", version: pin.libraryVersion } as const;
    const { onEvent, signal } = this.#options;
    const state = await checkFile(path, pin);
    if (state === "good") {
      this.#found(library, path, "pinned");
      return { info };
    }
    if (state === "corrupt") onEvent?.({ type: "rejected", path, reason: "content has changed" });
    const progress = (receivedBytes: number): void =>
      onEvent?.({
        type: "fetching",
        library,
        package: pin.package,
        version: pin.version,
        receivedBytes,
        totalBytes: pin.tarballBytes,
      });
    progress(0);
    const fetched = await fetchLibrary(pin, { signal, onBytes: progress });
    const dir = privateDir(join(privateDir(join(this.#root, "lib")), pin.sha256));
    for (const [name, content] of fetched.beside) await publishFile(join(dir, name), [content]);
    await publishFile(path, [fetched.library]);
    onEvent?.({ type: "fetched", library, path });
    return { info, bytes: fetched.library };
  }

  #pins(): RuntimePins {
    const platform = `${process.platform}-${process.arch}`;
    const pins = this.#options.pins ?? RUNTIME_PINS[platform];
    if (pins) return pins;
    throw new MicrovmError("UNSUPPORTED_PLATFORM", `no prebuilt libkrunfw for ${platform}`, {
      stage: "runtime",
      hint: "Install libkrunfw 5 and set MICROVM_LIBKRUN_DIR to its directory.",
    });
  }

  #systemDirs(): readonly string[] {
    return this.#options.systemDirs ?? systemLibraryDirs(process.platform, process.arch);
  }

  #firstLibrary(library: "libkrun" | "libkrunfw", dirs: readonly string[]): string | undefined {
    for (const dir of dirs) {
      for (const name of libraryNames(library, process.platform)) {
        const path = join(dir, name);
        try {
          if (statSync(path, { throwIfNoEntry: false })?.isFile()) return path;
        } catch (error) {
          this.#options.onEvent?.({ type: "rejected", path, reason: messageOf(error) });
        }
      }
    }
    return undefined;
  }

  #found(library: string, path: string, source: LibrarySource): LibraryInfo {
    this.#options.onEvent?.({ type: "found", library, path, source });
    return { path, source };
  }

  #kernelPath(sha256: string): string {
    return join(privateDir(join(this.#root, "kernel")), sha256);
  }

  #libraryPath(pin: PinnedLibrary): string {
    return join(this.#root, "lib", pin.sha256, pin.name);
  }
}

async function readBounded(path: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size > MAX_LIBRARY_BYTES)
      throw new MicrovmError("RUNTIME_CORRUPT", "too large", { stage: "runtime" });
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function notFound(message: string, hint = "Unset MICROVM_LIBKRUN_DIR to let it be fetched."): MicrovmError {
  return new MicrovmError("RUNTIME_NOT_FOUND", message, { stage: "runtime", hint });
}
