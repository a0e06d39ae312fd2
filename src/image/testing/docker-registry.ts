// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { SampleImage } from "./sample-image.ts";

/** Why tests against the real registry are skipped here; false if they are not. */
export const withoutDockerRegistry: string | false =
  spawnSync("docker-registry", ["--version"]).status === 0
    ? false
    : "needs docker-registry: apt install docker-registry";

export interface DockerRegistryOptions {
  readonly login?: { readonly username: string; readonly password: string };
}

/** The distribution project's registry (Debian package docker-registry) on a free loopback port. */
export class DockerRegistry implements AsyncDisposable {
  readonly host: string;
  readonly #process: ChildProcess;
  readonly #dir: string;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(host: string, process: ChildProcess, dir: string, headers: Record<string, string>) {
    this.host = host;
    this.#process = process;
    this.#dir = dir;
    this.#headers = headers;
  }

  static async start({ login }: DockerRegistryOptions = {}): Promise<DockerRegistry> {
    const dir = mkdtempSync(join(tmpdir(), "microvm-registry-"));
    const host = `127.0.0.1:${await freePort()}`;
    const auth = login ? `auth: {htpasswd: {realm: test, path: ${join(dir, "htpasswd")}}}\n` : "";
    if (login) {
      const line = execFileSync("htpasswd", ["-nbB", login.username, login.password]);
      writeFileSync(join(dir, "htpasswd"), line);
    }
    writeFileSync(
      join(dir, "config.yml"),
      `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n${auth}` +
        `storage: {filesystem: {rootdirectory: ${join(dir, "data")}}}\nhttp: {addr: "${host}"}\n`,
    );
    const child = spawn("docker-registry", ["serve", join(dir, "config.yml")], { stdio: "ignore" });
    const basic = login && Buffer.from(`${login.username}:${login.password}`).toString("base64");
    const registry = new DockerRegistry(host, child, dir, basic ? { authorization: `Basic ${basic}` } : {});
    await registry.#ready();
    return registry;
  }

  /** Uploads an image, and under each tag the manifest, or an index over it. Source: distribution-spec, "Push". */
  async push(repository: string, image: SampleImage, ...tags: string[]): Promise<void> {
    for (const [digest, bytes] of image.blobs) await this.#pushBlob(repository, digest, bytes);
    for (const tag of [image.digest, ...tags]) {
      await this.pushManifest(repository, tag, image.manifest, image.mediaType);
    }
  }

  /** Uploads the image tagged `latest` in an OCI layout, with skopeo. */
  pushLayout(layout: string, name: string): void {
    execFileSync("skopeo", [
      ...["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"],
      ...[`oci:${layout}:latest`, `docker://${this.host}/${name}`],
    ]);
  }

  async pushManifest(repository: string, tag: string, bytes: Buffer, mediaType: string): Promise<void> {
    await this.#send("PUT", `/v2/${repository}/manifests/${tag}`, bytes, mediaType);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await exited;
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #pushBlob(repository: string, digest: string, bytes: Buffer): Promise<void> {
    const started = await this.#send("POST", `/v2/${repository}/blobs/uploads/`);
    const location = new URL(started.headers.get("location") ?? "", `http://${this.host}`);
    location.searchParams.set("digest", digest);
    await this.#send("PUT", location.pathname + location.search, bytes, "application/octet-stream");
  }

  async #send(method: string, path: string, body?: Buffer, type?: string): Promise<Response> {
    const headers = { ...this.#headers, ...(type === undefined ? {} : { "content-type": type }) };
    const init = { method, headers, ...(body === undefined ? {} : { body: new Uint8Array(body) }) };
    const response = await fetch(`http://${this.host}${path}`, init);
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  async #ready(): Promise<void> {
    for (let tries = 0; tries < 200; tries += 1) {
      try {
        await fetch(`http://${this.host}/v2/`);
        return;
      } catch {
        await sleep(50); // not listening yet
      }
    }
    throw new Error("docker-registry does not start");
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
