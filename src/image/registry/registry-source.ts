// SPDX-License-Identifier: Apache-2.0
import { digestOf, isDigest } from "../digest.ts";
import { corrupt } from "../image-errors.ts";
import { IMAGE_LIMITS } from "../limits.ts";
import { MANIFEST_ACCEPT } from "../manifest/media-types.ts";
import type { Descriptor } from "../manifest/schema.ts";
import type { Reference } from "../reference.ts";
import type { ImageSource, SourceDocument } from "../source.ts";
import { Authorizer } from "./authorize.ts";
import { streamBlob } from "./blob.ts";
import { readDocument } from "./body.ts";
import { parseChallenges } from "./challenge.ts";
import { findCredential } from "./credentials.ts";
import { registryUrl } from "./endpoint.ts";
import { discard, HttpClient, type HttpRequest, type HttpResponse } from "./http.ts";
import { follow } from "./redirect.ts";
import { Backoff, retrying } from "./retry.ts";
import { statusError } from "./status.ts";
import type { RegistryTuning } from "./tuning.ts";

/** One repository of a registry. Source: OCI distribution-spec 1.1, "Pull". */
export class RegistrySource implements ImageSource {
  readonly #http: HttpClient;
  readonly #base: URL;
  readonly #authorizer: Authorizer;
  readonly #tuning: RegistryTuning;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    http: HttpClient,
    base: URL,
    authorizer: Authorizer,
    tuning: RegistryTuning,
    signal: AbortSignal | undefined,
  ) {
    this.#http = http;
    this.#base = base;
    this.#authorizer = authorizer;
    this.#tuning = tuning;
    this.#signal = signal;
  }

  static async open(
    { registry, repository }: Reference,
    dockerConfig: string,
    tuning: RegistryTuning,
    signal: AbortSignal | undefined,
  ): Promise<RegistrySource> {
    const url = registryUrl(registry);
    const http = new HttpClient(tuning);
    const credential = await findCredential(registry, dockerConfig);
    const authorizer = new Authorizer(http, url, repository, credential, tuning);
    return new RegistrySource(http, new URL(`${repository}/`, url), authorizer, tuning, signal);
  }

  /** By HEAD, which registries do not count against a user's limit. */
  async resolve(tag: string): Promise<string | undefined> {
    return this.#retrying(async () => {
      const headers = { accept: MANIFEST_ACCEPT };
      const response = await this.#exchange("HEAD", `manifests/${tag}`, headers, this.#signal);
      discard(response);
      const digest = response.header("docker-content-digest");
      return response.status === 200 && digest !== undefined && isDigest(digest) ? digest : undefined;
    });
  }

  async manifest(tagOrDigest: string): Promise<SourceDocument> {
    const what = `manifest ${tagOrDigest}`;
    return this.#retrying(async () => {
      const headers = { accept: MANIFEST_ACCEPT };
      const response = await this.#exchange("GET", `manifests/${tagOrDigest}`, headers, this.#signal);
      if (response.status !== 200) throw await statusError(response, what, this.#tuning, this.#signal);
      const { maxManifestBytes } = IMAGE_LIMITS;
      const bytes = await readDocument(response, maxManifestBytes, what, this.#tuning, this.#signal);
      const announced = response.header("docker-content-digest");
      if (announced !== undefined && isDigest(announced)) verify(bytes, announced, what);
      if (isDigest(tagOrDigest)) verify(bytes, tagOrDigest, what);
      const digest = isDigest(tagOrDigest) ? tagOrDigest : digestOf(bytes);
      return { bytes, digest, mediaType: response.header("content-type") };
    });
  }

  async document({ digest, size }: Descriptor, what: string): Promise<Buffer> {
    return this.#retrying(async () => {
      const response = await this.#exchange("GET", `blobs/${digest}`, {}, this.#signal);
      if (response.status !== 200) throw await statusError(response, what, this.#tuning, this.#signal);
      const bytes = await readDocument(response, size, what, this.#tuning, this.#signal);
      if (bytes.length !== size) throw corrupt(`${what}: ${bytes.length} bytes, the manifest says ${size}`);
      verify(bytes, digest, what);
      return bytes;
    });
  }

  blob(
    descriptor: Descriptor,
    signal: AbortSignal,
    onRetry: (reason: string) => void,
  ): AsyncIterable<Buffer> {
    const open = (range: Readonly<Record<string, string>>) =>
      this.#exchange("GET", `blobs/${descriptor.digest}`, range, signal);
    return streamBlob(open, descriptor.size, this.#tuning, signal, onRetry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http[Symbol.asyncDispose]();
  }

  #retrying<T>(attempt: () => Promise<T>): Promise<T> {
    return retrying(new Backoff(this.#tuning, this.#signal), attempt);
  }

  /** One authorised exchange: a challenge is answered once. */
  async #exchange(
    method: HttpRequest["method"],
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const request: HttpRequest = {
      method,
      url: new URL(path, this.#base),
      // Digests are of the bytes as stored: nothing may be compressed on the way.
      headers: { "accept-encoding": "identity", "user-agent": "ts-microvm", ...headers },
    };
    const used = this.#authorizer.header;
    const response = await follow(this.#http, request, used, signal);
    // Only the registry itself may ask for its credentials, not a host it redirects to.
    if (response.status !== 401 || response.url.origin !== request.url.origin) return response;
    const challenges = parseChallenges(response.headers("www-authenticate"));
    if (!(await this.#authorizer.answer(challenges, used, signal))) return response;
    discard(response);
    return follow(this.#http, request, this.#authorizer.header, signal);
  }
}

function verify(bytes: Buffer, expected: string, what: string): void {
  const actual = digestOf(bytes, expected);
  if (actual !== expected) throw corrupt(`${what}: digest mismatch: expected ${expected}, got ${actual}`);
}
