// SPDX-License-Identifier: Apache-2.0
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { digestOf } from "../digest.ts";
import type { SampleImage } from "./sample-image.ts";

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

/** Answers a request in place of the registry; returns false to let it answer itself. */
export type Intercept = (request: IncomingMessage, response: ServerResponse, seen: SeenRequest) => boolean;

interface Document {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

/** A registry whose every answer a test can spoil. Serves one repository under any name. */
export class FakeRegistry implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  intercept: Intercept = () => false;
  readonly #server: Server;
  readonly #manifests = new Map<string, Document>();
  readonly #blobs = new Map<string, Buffer>();

  private constructor() {
    this.#server = createServer((request, response) => {
      const seen = {
        method: request.method ?? "",
        path: request.url ?? "",
        authorization: request.headers.authorization,
        range: request.headers.range,
      };
      this.requests.push(seen);
      if (!this.intercept(request, response, seen)) this.#answer(seen, response);
    });
  }

  static async start(): Promise<FakeRegistry> {
    const registry = new FakeRegistry();
    await new Promise<void>((resolve) => registry.#server.listen(0, "127.0.0.1", resolve));
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  add(image: SampleImage, ...tags: string[]): void {
    this.addManifest(image.manifest, image.mediaType, ...tags);
    for (const [digest, bytes] of image.blobs) this.#blobs.set(digest, bytes);
  }

  addManifest(bytes: Buffer, mediaType: string, ...tags: string[]): void {
    for (const key of [digestOf(bytes), ...tags]) this.#manifests.set(key, { bytes, mediaType });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer({ method, path, range }: SeenRequest, response: ServerResponse): void {
    const [, kind, key = ""] = /^\/v2\/.+\/(manifests|blobs)\/([^/]+)$/.exec(path) ?? [];
    const manifest = kind === "manifests" ? this.#manifests.get(key) : undefined;
    const bytes = manifest?.bytes ?? (kind === "blobs" ? this.#blobs.get(key) : undefined);
    if (bytes === undefined) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(JSON.stringify({ errors: [{ code: "MANIFEST_UNKNOWN", message: "manifest unknown" }] }));
      return;
    }
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    response.writeHead(start > 0 ? 206 : 200, {
      "content-type": manifest?.mediaType ?? "application/octet-stream",
      "content-length": bytes.length - start,
      ...(manifest ? { "docker-content-digest": digestOf(bytes) } : {}),
      ...(start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    response.end(method === "HEAD" ? undefined : bytes.subarray(start));
  }
}
