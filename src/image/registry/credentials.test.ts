// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { failsWith } from "../testing/store-fixture.ts";
import { dockerConfigPath, findCredential } from "./credentials.ts";

const auth = (text: string) => Buffer.from(text).toString("base64");
const password = { kind: "password", username: "u", password: "p:w" };

describe("findCredential", () => {
  const dir = mkdtempSync(join(tmpdir(), "microvm-credentials-"));
  const path = join(dir, "config.json");
  after(() => rmSync(dir, { recursive: true }));

  const cases: [title: string, auths: object, registry: string, expected: unknown][] = [
    ["by host", { "ghcr.io": { auth: auth("u:p:w") } }, "ghcr.io", password],
    ["by host and port", { "h:5000": { auth: auth("u:p:w") } }, "h:5000", password],
    ["by URL", { "https://h/v1/": { auth: auth("u:p:w") } }, "h", password],
    [
      "under Docker Hub's old name",
      { "https://index.docker.io/v1/": { auth: auth("u:p:w") } },
      "docker.io",
      password,
    ],
    [
      "by name rather than by URL",
      { "https://h": { auth: auth("no:no") }, h: { auth: auth("u:p:w") } },
      "h",
      password,
    ],
    ["an identity token", { h: { auth: auth("<token>:t") } }, "h", { kind: "identity-token", token: "t" }],
    ["a registry token", { h: { registrytoken: "t" } }, "h", { kind: "registry-token", token: "t" }],
    ["nothing for another port", { "h:5000": { auth: auth("u:p") } }, "h", undefined],
    ["nothing for a longer name", { "h.evil": { auth: auth("u:p") } }, "h", undefined],
    ["nothing in an empty entry, as credential helpers leave", { h: {} }, "h", undefined],
    ["nothing inherited", {}, "constructor", undefined],
  ];
  for (const [title, auths, registry, expected] of cases) {
    it(`finds ${title}`, async () => {
      writeFileSync(path, JSON.stringify({ auths }));
      assert.deepEqual(await findCredential(registry, path), expected);
    });
  }

  it("finds nothing where there is no file, or no logins in it", async () => {
    assert.equal(await findCredential("h", join(dir, "none.json")), undefined);
    assert.equal(await findCredential("h", join(path, "below-a-file")), undefined);
    writeFileSync(path, '{"credsStore":"desktop"}');
    assert.equal(await findCredential("h", path), undefined);
  });

  it("says what is wrong without showing secrets", async () => {
    for (const text of [
      '{"auths":{"h":{"auth":"hunter2',
      '{"auths":{"h":{"auth":["hunter2"]}}}',
      `{"auths":{"h":{"auth":"${auth("hunter2")}"}}}`,
    ]) {
      writeFileSync(path, text);
      await assert.rejects(findCredential("h", path), (error: Error) => {
        failsWith("INVALID_OPTION", /config\.json: /)(error);
        return !error.message.includes("hunter2") && !String(error.cause).includes("hunter2");
      });
    }
  });

  it("looks where docker login writes", () => {
    assert.equal(dockerConfigPath({ DOCKER_CONFIG: "/x" }), "/x/config.json");
    assert.equal(dockerConfigPath({}), join(homedir(), ".docker", "config.json"));
  });
});
