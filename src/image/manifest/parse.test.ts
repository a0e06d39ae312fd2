// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { MicrovmError } from "../../errors.ts";
import { parsePlatform } from "../platform.ts";
import { sampleImage, sampleIndex } from "../testing/sample-image.ts";
import { parseConfig } from "./config.ts";
import { parseManifest } from "./parse.ts";
import { selectManifest } from "./select.ts";

const amd64 = parsePlatform("linux/amd64");
const image = sampleImage({ platform: { os: "linux", architecture: "amd64" } });
const index = sampleIndex([image]);
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const config = (extra: object) =>
  parseConfig(
    bytes({ os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] }, ...extra }),
    0,
    amd64,
  );

describe("parseManifest", () => {
  it("believes the document before the registry, and the registry before its guess", () => {
    assert.equal(parseManifest(index.bytes, image.mediaType).kind, "index");
    assert.equal(parseManifest(image.manifest, "text/plain; charset=utf-8").kind, "manifest");
    const { mediaType: _, ...silent } = JSON.parse(image.manifest.toString());
    assert.equal(parseManifest(bytes(silent), `${image.mediaType}; charset=utf-8`).kind, "manifest");
    assert.equal(parseManifest(bytes(silent), undefined).kind, "manifest");
    assert.equal(parseManifest(bytes({ schemaVersion: 2, manifests: [] }), undefined).kind, "index");
  });

  it("passes or ends in a MicrovmError, whatever was changed in a document", () => {
    const originals = [JSON.parse(image.manifest.toString()), JSON.parse(index.bytes.toString())];
    fc.assert(
      fc.property(fc.constantFrom(...originals), fc.nat(), fc.jsonValue(), (original, where, value) => {
        const paths = leaves(original);
        const changed = structuredClone(original);
        put(changed, paths[where % paths.length] ?? [], value);
        harmless(() => {
          const parsed = parseManifest(bytes(changed), undefined);
          if (parsed.kind === "index") selectManifest(parsed.index, amd64);
        });
      }),
      { numRuns: 500 },
    );
    fc.assert(fc.property(fc.json(), (text) => harmless(() => parseManifest(Buffer.from(text), undefined))));
    fc.assert(fc.property(fc.uint8Array(), (noise) => harmless(() => parseManifest(noise, undefined))));
  });
});

describe("parseConfig", () => {
  it("takes null for absent, as Go programs write it", () => {
    const { config: parsed, createdAt } = config({
      created: null,
      config: {
        Entrypoint: null,
        Cmd: null,
        Env: null,
        Volumes: null,
        ExposedPorts: null,
        Labels: null,
        StopSignal: "",
      },
    });
    assert.deepEqual(parsed, {
      entrypoint: [],
      cmd: [],
      env: [],
      workingDir: "",
      user: "",
      exposedPorts: [],
      volumes: [],
      labels: {},
    });
    assert.equal(createdAt, undefined);
  });

  it("reads all that a VM needs", () => {
    const { config: parsed } = config({
      config: {
        Entrypoint: ["/init"],
        Cmd: ["a"],
        Env: ["A=1"],
        WorkingDir: "/w",
        User: "1:2",
        StopSignal: "SIGQUIT",
        Hostname: "h",
        ExposedPorts: { "80/tcp": {} },
        Volumes: { "/data": {} },
        Labels: { k: "v" },
        OnBuild: ["ignored"],
      },
    });
    assert.deepEqual(parsed, {
      entrypoint: ["/init"],
      cmd: ["a"],
      env: ["A=1"],
      workingDir: "/w",
      user: "1:2",
      stopSignal: "SIGQUIT",
      hostname: "h",
      exposedPorts: ["80/tcp"],
      volumes: ["/data"],
      labels: { k: "v" },
    });
  });

  it("takes an image that does not say what it is for", () => {
    assert.deepEqual(config({ os: "", architecture: undefined }).platform, amd64);
  });

  it("passes or ends in a MicrovmError, whatever it reads", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => harmless(() => config({ config: value, created: value }))),
    );
  });
});

function harmless(body: () => unknown): void {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof MicrovmError && error.hint, String(error));
    assert.ok(error.message.length < 2000);
  }
}

type Path = readonly string[];

function leaves(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]))];
}

function put(target: Record<string, unknown>, path: Path, value: unknown): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  if (rest.length === 0) target[key] = value;
  else put(target[key] as Record<string, unknown>, rest, value);
}
