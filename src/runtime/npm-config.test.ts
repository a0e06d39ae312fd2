// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { npmOptions, parseNpmrc } from "./npm-config.ts";

test("an npmrc's lines, comments, quotes and variables are read as npm reads them", () => {
  const text = `
; a comment
# another
registry = https://mirror.example/npm/
@example:registry=https://scoped.example/
//mirror.example/npm/:_authToken=\${TOKEN}
proxy="http://proxy.example:3128"
cert=\${MISSING}
key=\${MISSING?}
[section]
`;
  assert.deepEqual(Object.fromEntries(parseNpmrc(text, { TOKEN: "secret" })), {
    registry: "https://mirror.example/npm/",
    "@example:registry": "https://scoped.example/",
    "//mirror.example/npm/:_authToken": "secret",
    proxy: "http://proxy.example:3128",
    cert: "${MISSING}",
    key: "",
  });
});

test("the environment goes before the user's npmrc, and that before the global one", () => {
  const dir = mkdtempSync(join(tmpdir(), "microvm-npmrc-"));
  try {
    const [globalconfig, userconfig] = [join(dir, "global"), join(dir, "user")];
    writeFileSync(
      globalconfig,
      "registry=https://global.example/\nproxy=http://p.example/\nstrict-ssl=false\n",
    );
    writeFileSync(userconfig, "registry=https://user.example/\nhttps-proxy=http://s.example/\n");
    const env = { npm_config_globalconfig: globalconfig, npm_config_userconfig: userconfig };
    assert.deepEqual(npmOptions(env), {
      registry: "https://user.example/",
      proxy: "http://p.example/",
      httpsProxy: "http://s.example/",
      strictSSL: false,
    });
    const overridden = npmOptions({ ...env, npm_config_registry: "https://env.example/" });
    assert.equal(overridden.registry, "https://env.example/");
  } finally {
    rmSync(dir, { recursive: true });
  }
});
