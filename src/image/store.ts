// SPDX-License-Identifier: Apache-2.0
import { resolve } from "node:path";
import { isErrno, MicrovmError, toMicrovmError } from "../errors.ts";
import { privateDir } from "../internal/dirs.ts";
import { Catalog, type CatalogImage, type CatalogLayer } from "./catalog.ts";
import type { PullListener } from "./events.ts";
import { StoreLayout } from "./layout.ts";
import { findLocal, lookUp, nameOf, shownName, storedName } from "./lookup.ts";
import type { ImageConfig } from "./manifest/config.ts";
import { hostPlatform, type Platform, parsePlatform } from "./platform.ts";
import { missingFiles } from "./presence.ts";
import { familiarName, parseReference, type Reference } from "./reference.ts";
import type { RegistryTuning } from "./registry/tuning.ts";
import { type RemovedImage, removeImage } from "./remove.ts";

/** When `pull` asks the registry. */
export type PullPolicy =
  /** Only for images the store does not have. */
  | "missing"
  /** Each time, for what the tag means now; fetches what changed. */
  | "always"
  /** Never. */
  | "never";

export interface ImageStoreOptions {
  /** `<cache>/images`; made if it does not exist. */
  readonly dir: string;
  /** Where `docker login` keeps credentials; default `$DOCKER_CONFIG` or `~/.docker`, `config.json`. */
  readonly dockerConfig?: string | undefined;
  /** Patience with registries. */
  readonly tuning?: Partial<RegistryTuning> | undefined;
}

export interface PullOptions {
  /** `linux/amd64`; default Linux on this machine's architecture. */
  readonly platform?: string | undefined;
  /** Default `missing`. */
  readonly policy?: PullPolicy | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: PullListener | undefined;
}

/** An image that is complete and ready to boot. */
export interface StoredImage {
  /** Digest of its manifest. */
  readonly id: string;
  /** Its names as a person would type them: `debian:12`. */
  readonly references: readonly string[];
  readonly config: ImageConfig;
  /** The disk, a VMDK descriptor over `rootfs.erofs` and the layers; read-only. */
  readonly diskPath: string;
  /** From the lowest to the highest; sizes are of the tars. */
  readonly layers: readonly CatalogLayer[];
  /** `linux/amd64` */
  readonly platform: string;
  /** When it was pulled; milliseconds since 1970. */
  readonly createdAt: number;
  /** When it was built, if it says so; milliseconds since 1970. */
  readonly builtAt?: number;
  /** Of its layers and metadata; other images may share them. */
  readonly sizeBytes: number;
}

/**
 * The images of one user, on disk. Safe to use from several processes at once.
 *
 * Every method throws `MicrovmError`s with stage `image`, or `STATE_CORRUPT` if the catalog cannot be read.
 */
export class ImageStore implements Disposable {
  readonly #layout: StoreLayout;
  readonly #dockerConfig: string | undefined;
  readonly #tuning: Partial<RegistryTuning>;
  readonly #downloads = new Map<string, Promise<unknown>>();
  #opened: Catalog | undefined;

  constructor(options: ImageStoreOptions) {
    this.#layout = new StoreLayout(resolve(options.dir));
    this.#dockerConfig = options.dockerConfig;
    this.#tuning = options.tuning ?? {};
  }

  /**
   * Makes an image ready to boot, from the store or else from its registry. An image that the store has, and a
   * digest that it has, cost no network traffic at all unless `policy` is `always` and the reference a tag.
   *
   * Source: OCI distribution-spec 1.1 and image-spec 1.1; Docker registry API, manifest schema 2.
   *
   * @param reference for example `debian:12`, `ghcr.io/org/app@sha256:…`
   * @throws MicrovmError `INVALID_REFERENCE`, `INVALID_OPTION`, `IMAGE_NOT_FOUND`, `IMAGE_UNAUTHORIZED`,
   *   `IMAGE_RATE_LIMITED`, `IMAGE_CORRUPT`, `IMAGE_UNSUPPORTED`, `IMAGE_LIMIT`, `REGISTRY_UNREACHABLE`,
   *   `REGISTRY_ERROR`, `ABORTED`, `TIMEOUT`
   */
  async pull(reference: string, options: PullOptions = {}): Promise<StoredImage> {
    const { policy = "missing", signal } = options;
    const emit = options.onEvent ?? (() => {});
    const parsed = parseReference(reference);
    const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
    try {
      signal?.throwIfAborted();
      emit({ type: "resolving", reference: parsed.toString() });
      const mayReuse = policy !== "always" || parsed.digest !== undefined;
      const found = mayReuse ? findLocal(this.#catalog, this.#layout, parsed, platform) : undefined;
      if (found) {
        emit({ type: "done", digest: found.id, fromStore: true });
        return this.#describe(found);
      }
      if (policy === "never") throw notHere("not in the store, and the policy is never to pull");
      const id = await this.#pullFromRegistry(parsed, platform, signal, emit);
      return this.#required(id);
    } catch (error) {
      throw imageError(error, signal).within(`pull ${familiarName(parsed)}`);
    }
  }

  /**
   * An image by reference, digest, or unambiguous start of its digest's hex; undefined if it is not here complete.
   *
   * @param platform which of the images of this name; default this machine's
   */
  get(refOrId: string, platform?: string): StoredImage | undefined {
    return this.#guard(() => {
      const found = lookUp(this.#catalog, refOrId, platform);
      return found && this.#isComplete(found) ? this.#describe(found) : undefined;
    });
  }

  /** All complete images, the last pulled first. */
  list(): StoredImage[] {
    return this.#guard(() =>
      this.#catalog
        .images()
        .filter((image) => this.#isComplete(image))
        .map((image) => this.#describe(image)),
    );
  }

  /**
   * Takes a name off an image, and removes the image with its last name; by id, removes it with all its names.
   *
   * @throws MicrovmError `IMAGE_NOT_FOUND`; `IMAGE_IN_USE` while a lease on it is alive, unless forced
   */
  remove(refOrId: string, options: { readonly force?: boolean | undefined } = {}): RemovedImage {
    return this.#guard(() => {
      const name = nameOf(refOrId);
      const found = lookUp(this.#catalog, refOrId) ?? this.#namedForOthers(name);
      if (!found) throw notHere(`${refOrId}: no such image`);
      const all = [...new Set(this.#catalog.referencesOf(found.id).map(({ reference }) => reference))];
      const names = name !== undefined && all.includes(name) ? [name] : all;
      try {
        const removed = removeImage(this.#catalog, this.#layout, found, names, options.force ?? false);
        return { ...removed, untagged: removed.untagged.map(shownName) };
      } catch (error) {
        throw imageError(error).within(`remove ${refOrId}`);
      }
    });
  }

  /**
   * Keeps an image from being removed for as long as `holderDir` exists.
   *
   * @throws MicrovmError `IMAGE_NOT_FOUND` if it is gone already
   */
  lease(imageId: string, holderDir: string): void {
    this.#guard(() =>
      this.#catalog.exclusively(() => {
        const image = this.#catalog.image(imageId);
        if (!image || !this.#isComplete(image)) throw notHere(`${imageId}: no such image`);
        this.#catalog.putLease(imageId, holderDir);
      }),
    );
  }

  /** Ends the leases of `holderDir`. */
  release(holderDir: string): void {
    this.#guard(() => this.#catalog.deleteLeases(holderDir));
  }

  /** Closes the catalog; the next call opens it again. */
  [Symbol.dispose](): void {
    this.#opened?.close();
    this.#opened = undefined;
  }

  get #catalog(): Catalog {
    if (this.#opened === undefined) {
      privateDir(this.#layout.dir);
      this.#opened = Catalog.open(this.#layout.catalog);
    }
    return this.#opened;
  }

  /** Everything that speaks HTTP or checks documents is loaded here and not before: a warm start needs none of it. */
  async #pullFromRegistry(
    reference: Reference,
    platform: Platform,
    signal: AbortSignal | undefined,
    emit: PullListener,
  ): Promise<string> {
    const [{ pullImage }, { REGISTRY_TUNING }, { dockerConfigPath }] = await Promise.all([
      import("./pull.ts"),
      import("./registry/tuning.ts"),
      import("./registry/credentials.ts"),
    ]);
    return pullImage({
      layout: this.#layout,
      catalog: this.#catalog,
      downloads: this.#downloads,
      reference,
      name: storedName(reference),
      platform,
      dockerConfig: this.#dockerConfig ?? dockerConfigPath(),
      tuning: { ...REGISTRY_TUNING, ...this.#tuning },
      signal: signal ?? new AbortController().signal,
      emit,
    });
  }

  /** The image of this name for a platform that is not this machine's. */
  #namedForOthers(name: string | undefined): CatalogImage | undefined {
    const [reference] = name === undefined ? [] : this.#catalog.referencesNamed(name);
    return reference && this.#catalog.image(reference.imageId);
  }

  #isComplete(image: CatalogImage): boolean {
    return missingFiles(this.#layout, image).length === 0;
  }

  #required(id: string): StoredImage {
    const image = this.#catalog.image(id);
    if (!image) throw notHere("removed by another process right after it was pulled");
    return this.#describe(image);
  }

  #describe(image: CatalogImage): StoredImage {
    const names = this.#catalog.referencesOf(image.id).map(({ reference }) => shownName(reference));
    return {
      id: image.id,
      references: [...new Set(names)],
      config: image.config,
      diskPath: this.#layout.rootfsDisk(image.rootfsKey),
      layers: image.layers,
      platform: image.platform,
      createdAt: image.createdAt,
      ...(image.builtAt === undefined ? {} : { builtAt: image.builtAt }),
      sizeBytes: image.layers.reduce((sum, { size }) => sum + size, image.rootfsBytes),
    };
  }

  #guard<T>(body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw imageError(error);
    }
  }
}

function notHere(message: string): MicrovmError {
  return new MicrovmError("IMAGE_NOT_FOUND", message, { stage: "image", hint: "Pull the image first." });
}

function imageError(error: unknown, signal?: AbortSignal): MicrovmError {
  const known = toMicrovmError(error, "image", signal);
  if (known.code !== "INTERNAL" || known.hint !== undefined) return known;
  const full = isErrno(error, "ENOSPC") || isErrno(error, "EDQUOT");
  const hint = full
    ? "Free disk space, for example by removing images, or point MICROVM_CACHE_DIR elsewhere."
    : "Check that the image store's directory can be written to; if so, please report this as a bug.";
  return new MicrovmError(known.code, known.message, { stage: "image", hint, cause: error });
}
