// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import { gzipSync } from "node:zlib";
import { readKernelBundle } from "../kernel-bundle.ts";
import { kernelFileParts } from "../kernel-file.ts";
import type { RuntimePins } from "../pins.ts";
import { digestOf } from "../verified-file.ts";

/** A tar archive of plain files, as npm packs them. */
export function ustar(files: Readonly<Record<string, Uint8Array>>): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, data] of Object.entries(files)) {
    const header = Buffer.alloc(512);
    header.write(name, 0, "latin1");
    header.write("0000644\0", 100, "latin1");
    header.write(`${data.length.toString(8).padStart(11, "0")}\0`, 124, "latin1");
    header.write("0", 156, "latin1");
    header.write("ustar\x0000", 257, "latin1");
    parts.push(header, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** An npm registry on this machine with one package, and pins that go with it. */
export interface FakeRegistry extends AsyncDisposable {
  readonly url: string;
  readonly pins: RuntimePins;
  /** Paths of all requests so far. */
  readonly requests: string[];
  /** What it serves as the tarball. */
  tarball: Uint8Array;
}

export async function fakeRegistry(library: Uint8Array): Promise<FakeRegistry> {
  const name = "@example/krunfw";
  const member = "package/lib/libkrunfw.so.5.0.0";
  const tarball = gzipSync(
    ustar({
      "package/package.json": Buffer.from('{"name":"@example/krunfw","license":"test"}'),
      "package/bin/other": Buffer.alloc(5000, 1),
      [member]: library,
    }),
  );
  const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  const kernelParts = kernelFileParts(readKernelBundle(library));
  const registry = {
    url: "",
    requests: [] as string[],
    tarball: tarball as Uint8Array,
    pins: {
      libkrunfw: {
        package: name,
        version: "1.2.3",
        integrity,
        tarballBytes: tarball.length,
        member,
        name: "libkrunfw.so.5",
        sizeBytes: library.length,
        sha256: digestOf([library]),
        libraryVersion: "5.0.0",
        licences: ["package/package.json"],
        notice: "notice\n",
      },
      kernel: {
        sha256: digestOf(kernelParts),
        sizeBytes: kernelParts.reduce((sum, part) => sum + part.length, 0),
      },
    },
    [Symbol.asyncDispose]: async (): Promise<void> => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server: Server = createServer((request, response) => {
    registry.requests.push(request.url ?? "");
    if (request.url?.endsWith(".tgz")) {
      response.end(registry.tarball);
      return;
    }
    const dist = { integrity, tarball: `${registry.url}/krunfw-1.2.3.tgz` };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        name,
        "dist-tags": { latest: "1.2.3" },
        versions: { "1.2.3": { name, version: "1.2.3", dist } },
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  registry.url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  return registry;
}
