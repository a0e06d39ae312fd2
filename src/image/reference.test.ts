// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { familiarName, parseReference, pinned } from "./reference.ts";
import { failsWith } from "./testing/store-fixture.ts";

const HEX = "0123456789abcdef".repeat(4);
const DIGEST = `sha256:${HEX}`;

describe("parseReference", () => {
  // Many are the test cases of the distribution project's reference package.
  const valid: Record<string, string> = {
    debian: "docker.io/library/debian:latest",
    "debian:12": "docker.io/library/debian:12",
    "lowercase:Uppercase": "docker.io/library/lowercase:Uppercase",
    "library/debian": "docker.io/library/debian:latest",
    "docker.io/debian": "docker.io/library/debian:latest",
    "index.docker.io/debian": "docker.io/library/debian:latest",
    "index.docker.io/library/debian": "docker.io/library/debian:latest",
    "docker/docker": "docker.io/docker/docker:latest",
    "Docker/docker": "Docker/docker:latest",
    "localhost/debian": "localhost/debian:latest",
    "localhost:5000/a/b:c": "localhost:5000/a/b:c",
    localhost: "docker.io/library/localhost:latest",
    "localhost:5000": "docker.io/library/localhost:5000",
    "LOCALDOMAIN/debian": "LOCALDOMAIN/debian:latest",
    "test.com:5000": "docker.io/library/test.com:5000",
    "test.com/repo:tag": "test.com/repo:tag",
    "test:5000/repo": "test:5000/repo:latest",
    "192.168.1.1:5000/repo:5050": "192.168.1.1:5000/repo:5050",
    "[2001:db8::1]:5000/repo:tag": "[2001:db8::1]:5000/repo:tag",
    "[::1]/repo": "[::1]/repo:latest",
    "xn--n3h.com/myimage:xn--n3h.com": "xn--n3h.com/myimage:xn--n3h.com",
    "foo/foo_bar.com:8080": "docker.io/foo/foo_bar.com:8080",
    "a/dock__er---x.y": "docker.io/a/dock__er---x.y:latest",
    [`debian@${DIGEST}`]: `docker.io/library/debian@${DIGEST}`,
    [`debian:12@${DIGEST}`]: `docker.io/library/debian:12@${DIGEST}`,
    [`debian@sha512:${HEX}${HEX}`]: `docker.io/library/debian@sha512:${HEX}${HEX}`,
    [`docker.io/${HEX}`]: `docker.io/library/${HEX}:latest`,
    [`example.com/${"a".repeat(255)}:tag`]: `example.com/${"a".repeat(255)}:tag`,
    [`x:${"t".repeat(128)}`]: `docker.io/library/x:${"t".repeat(128)}`,
  };
  for (const [text, full] of Object.entries(valid)) {
    it(`reads ${text.slice(0, 60)}`, () => assert.equal(parseReference(text).toString(), full));
  }

  const invalid: Record<string, RegExp> = {
    "": /it is empty/,
    ":tag": /repository name is missing/,
    "docker.io/": /repository name is missing/,
    [`@${DIGEST}`]: /repository name is missing/,
    Uppercase: /must be lower-case/,
    "docker/Docker": /must be lower-case/,
    "test:5000/Uppercase/lowercase:tag": /must be lower-case/,
    "https://github.com/docker/docker": /not a registry host|not a repository name/,
    "-docker": /not a repository name/,
    "-docker.io/docker": /not a registry host/,
    "docker///docker": /not a repository name/,
    "a/../b": /not a repository name/,
    "../a": /not a registry host/,
    "aa/asdf$$^/aa": /not a repository name/,
    "a b": /not a repository name/,
    "a\n": /not a repository name/,
    "a:b\n": /is not a tag/,
    "a:.x": /is not a tag/,
    [`a:${"t".repeat(129)}`]: /is not a tag/,
    "a:": /is not a tag/,
    "a@": /is not a sha256 or sha512 digest/,
    "a@sha256:ff": /is not a sha256 or sha512 digest/,
    [`a@sha256:${HEX.toUpperCase()}`]: /is not a sha256 or sha512 digest/,
    [`a@sha256:../../${HEX}`]: /is not a registry host/,
    [`a@md5:${HEX.slice(32)}`]: /is not a sha256 or sha512 digest/,
    [`a@constructor:${HEX}`]: /is not a sha256 or sha512 digest/,
    "[2001:db8::1]": /not a repository name|not a tag/,
    "[fe80::1%eth0]:5000/repo": /not a registry host/,
    "[::::]/repo": /not a registry host/,
    "fc00::1:5000/debian": /not a registry host/,
    "host:99999/repo": /not a registry host/,
    "foo_bar.com/repo": /not a registry host/,
    "user@host.com/repo": /not a registry host/,
    [HEX]: /64 hexadecimal characters/,
    [`domain.com/${"a".repeat(256)}`]: /longer than 255/,
    ["a".repeat(2000)]: /longer than 1024/,
  };
  for (const [text, reason] of Object.entries(invalid)) {
    it(`refuses ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.throws(() => parseReference(text), failsWith("INVALID_REFERENCE", reason));
    });
  }

  it("takes no time over long hostile input", () => {
    const started = performance.now();
    for (const text of [
      "a-".repeat(500),
      "a.".repeat(500),
      "A-".repeat(400).concat("/x"),
      "_".repeat(1000),
    ]) {
      assert.throws(() => parseReference(text));
    }
    assert.ok(performance.now() - started < 500);
  });

  it("keeps what a name needs to stay itself", () => {
    for (const text of ["docker.io/a.b/c:1", "docker.io/localhost/c:1", "docker.io/library/a/b:1"]) {
      assert.equal(parseReference(familiarName(parseReference(text))).toString(), text);
    }
  });

  it("knows what is left of a name when its defaults are left out", () => {
    assert.equal(familiarName(parseReference("docker.io/library/debian:12")), "debian:12");
    assert.equal(familiarName(parseReference("docker.io/org/app")), "org/app:latest");
    assert.equal(familiarName(parseReference("ghcr.io/org/app")), "ghcr.io/org/app:latest");
    assert.equal(familiarName(pinned(parseReference("debian:12"), DIGEST)), `debian@${DIGEST}`);
  });
});

describe("every reference", () => {
  const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const component = fc
    .tuple(word, fc.array(fc.tuple(fc.constantFrom(".", "_", "__", "-", "---"), word), { maxLength: 2 }))
    .map(([first, rest]) => first + rest.flat().join(""));
  const registry = fc.oneof(
    fc.constantFrom("localhost", "docker.io", "[::1]:5000", "10.0.0.1:80", "ghcr.io"),
    fc
      .tuple(fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/), fc.constantFrom(".com", ".io:443", ":5000"))
      .map((parts) => parts.join("")),
  );
  const reference = fc
    .tuple(
      fc.option(registry),
      fc.array(component, { minLength: 1, maxLength: 4 }),
      fc.option(fc.stringMatching(/^\w[\w.-]{0,20}$/)),
      fc.option(fc.constant(DIGEST)),
    )
    // Without a host, a first component that looks like one would be taken for one.
    .filter(([host, path]) => host !== null || !/[.]/.test(path[0] ?? ""))
    .map(
      ([host, path, tag, digest]) =>
        `${host === null ? "" : `${host}/`}${path.join("/")}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`,
    )
    .filter((text) => !/^[a-f0-9]{64}$/.test(text));

  it("parses to the same reference from its full and from its familiar name", () => {
    fc.assert(
      fc.property(reference, (text) => {
        const parsed = parseReference(text);
        assert.deepEqual(parseReference(parsed.toString()), parsed);
        assert.deepEqual(parseReference(familiarName(parsed)), parsed);
      }),
      { numRuns: 2000 },
    );
  });

  it("is a MicrovmError or well formed, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
        try {
          assert.ok(parseReference(text).repository);
        } catch (error) {
          failsWith("INVALID_REFERENCE", /./)(error);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
