// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, describe, it } from "node:test";
import { FakeRegistry } from "../testing/fake-registry.ts";
import { good } from "../testing/hostile.ts";
import { failsWith, StoreFixture } from "../testing/store-fixture.ts";

const LOGIN = { username: "tess", password: "s:3cret" };
const BASIC = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString("base64")}`;

/** An HTTP server that remembers what it was asked. */
class Recorder implements AsyncDisposable {
  readonly requests: { url: URL; method: string; authorization: string | undefined; body: string }[] = [];
  answer: (response: ServerResponse, request: (typeof this.requests)[number]) => void = (response) =>
    response.end();
  readonly server: Server = createServer((request, response) => void this.#serve(request, response));

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { url = "", method = "", headers } = request;
    const seen = { url: new URL(url, this.origin), method, authorization: headers.authorization, body };
    this.requests.push(seen);
    this.answer(response, seen);
  }
}

describe("authentication", () => {
  let registry: FakeRegistry;
  let other: Recorder;
  before(async () => {
    registry = await FakeRegistry.start();
    registry.add(good, "x");
    other = await new Recorder().listen();
  });
  after(async () => {
    await registry[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    registry.requests.length = 0;
    registry.intercept = () => false;
    other.requests.length = 0;
  });

  const login = (fixture: StoreFixture, entry: object, key = registry.host) =>
    writeFileSync(fixture.dockerConfig, JSON.stringify({ auths: { [key]: entry } }));
  const demand = (challenge: string | string[], accepts: (authorization: string) => boolean) => {
    registry.intercept = (_, response, { authorization }) => {
      if (authorization !== undefined && accepts(authorization)) return false;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return true;
    };
  };
  const bearer = (parameters: string) => `Bearer realm="${other.origin}/token",service="reg",${parameters}`;

  for (const [title, entry, key] of [
    ["auth", { auth: BASIC.slice(6) }, undefined],
    ["username and password", LOGIN, undefined],
    ["a URL for a key", { auth: BASIC.slice(6) }, "url"],
  ] as const) {
    it(`answers a Basic challenge with what docker login stored as ${title}`, async () => {
      using fixture = new StoreFixture();
      demand('Basic realm="r"', (authorization) => authorization === BASIC);
      login(fixture, entry, key ? `http://${registry.host}/v2/` : registry.host);
      assert.equal((await fixture.store.pull(`${registry.host}/a:x`)).id, good.digest);
      assert.equal(registry.requests[0]?.authorization, undefined, "nothing is sent unasked");
    });
  }

  it("gets a token, with the login if there is one, and a new one when it expires", async () => {
    using fixture = new StoreFixture();
    let tokens = 0;
    let uses = 0;
    other.answer = (response) => {
      tokens += 1;
      response.end(JSON.stringify({ token: `t${tokens}`, expires_in: 60 }));
    };
    demand([`Basic realm="r"`, bearer('scope="repository:team/a:pull"')], (authorization) => {
      // Each token works three times.
      if (authorization !== `Bearer t${tokens}` || uses >= 3 * tokens) return false;
      uses += 1;
      return true;
    });
    login(fixture, LOGIN);
    assert.equal((await fixture.store.pull(`${registry.host}/team/a:x`)).id, good.digest);
    assert.equal(tokens, 2);
    for (const { url, authorization } of other.requests) {
      assert.equal(authorization, BASIC);
      assert.deepEqual(Object.fromEntries(url.searchParams), {
        service: "reg",
        scope: "repository:team/a:pull",
        account: "tess",
      });
    }
  });

  it("gets an anonymous token, whatever the server calls it", async () => {
    using fixture = new StoreFixture();
    other.answer = (response) => response.end(JSON.stringify({ access_token: "t" }));
    demand(`Bearer realm="${other.origin}/token"`, (authorization) => authorization === "Bearer t");
    assert.equal((await fixture.store.pull(`${registry.host}/team/a:x`)).id, good.digest);
    assert.equal(other.requests[0]?.authorization, undefined);
    assert.equal(other.requests[0]?.url.searchParams.get("scope"), "repository:team/a:pull");
  });

  it("exchanges an identity token", async () => {
    using fixture = new StoreFixture();
    other.answer = (response) => response.end(JSON.stringify({ access_token: "t" }));
    demand(bearer('scope="s"'), (authorization) => authorization === "Bearer t");
    login(fixture, { auth: Buffer.from("<token>:refresh").toString("base64"), identitytoken: "refresh" });
    await fixture.store.pull(`${registry.host}/a:x`);
    const [{ method, body } = { method: "", body: "" }] = other.requests;
    assert.equal(method, "POST");
    assert.deepEqual(Object.fromEntries(new URLSearchParams(body)), {
      service: "reg",
      scope: "s",
      grant_type: "refresh_token",
      client_id: "ts-microvm",
      refresh_token: "refresh",
    });
  });

  it("says so when there is no login, or the wrong one", async () => {
    using fixture = new StoreFixture();
    demand('Basic realm="r"', (authorization) => authorization === BASIC);
    const pull = () => fixture.store.pull(`${registry.host}/a:x`);
    await assert.rejects(pull(), failsWith("IMAGE_UNAUTHORIZED", /manifest x: .*authentication required/));
    login(fixture, { ...LOGIN, password: "wrong" });
    await assert.rejects(pull(), failsWith("IMAGE_UNAUTHORIZED", /authentication required/));
    assert.equal(registry.requests.length, 3, "no answer is tried twice");
  });

  const refusals: [title: string, challenge: () => string, answer: string, message: RegExp][] = [
    [
      "a token server on plain http elsewhere",
      () => 'Bearer realm="http://192.0.2.1/token"',
      "",
      /token server is "http:\/\/192.0.2.1\/token", which is not an https URL/,
    ],
    ["a token server that is a file", () => 'Bearer realm="file:///etc/passwd"', "", /not an https URL/],
    ["no token server", () => 'Bearer service="x"', "", /token server is "\(none\)"/],
    ["an answer without a token", () => bearer('scope="s"'), "{}", /holds no token/],
    ["an answer that is not JSON", () => bearer('scope="s"'), "<html>", /holds no token/],
    [
      "a token with a line break",
      () => bearer('scope="s"'),
      '{"token":"a\\r\\nx-evil: 1"}',
      /holds no token/,
    ],
  ];
  for (const [title, challenge, answer, message] of refusals) {
    it(`refuses ${title}`, async () => {
      using fixture = new StoreFixture();
      other.answer = (response) => response.end(answer);
      demand(challenge(), () => false);
      login(fixture, LOGIN);
      await assert.rejects(fixture.store.pull(`${registry.host}/a:x`), failsWith("REGISTRY_ERROR", message));
    });
  }

  it("refuses an endless token", async () => {
    using fixture = new StoreFixture();
    other.answer = (response) => response.end("x".repeat(1e6));
    demand(bearer('scope="s"'), () => false);
    await assert.rejects(
      fixture.store.pull(`${registry.host}/a:x`),
      failsWith("IMAGE_LIMIT", /token: longer than/),
    );
  });

  it("passes on what the token server says", async () => {
    using fixture = new StoreFixture();
    other.answer = (response) =>
      response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"go away"}]}');
    demand(bearer('scope="s"'), () => false);
    await assert.rejects(
      fixture.store.pull(`${registry.host}/a:x`),
      failsWith("IMAGE_UNAUTHORIZED", /token: .*DENIED go away/),
    );
  });

  describe("never leaves the registry", () => {
    it("when a blob is elsewhere", async () => {
      using fixture = new StoreFixture();
      login(fixture, LOGIN);
      other.answer = (response, { url }) => {
        const bytes = good.blobs.get(url.pathname.slice(1));
        response.writeHead(200, { "content-length": bytes?.length }).end(bytes);
      };
      registry.intercept = (_, response, { path, authorization }) => {
        if (authorization !== BASIC) response.writeHead(401, { "www-authenticate": "Basic" }).end();
        else if (!path.includes("/blobs/")) return false;
        // A user name in the URL is no way to smuggle credentials in, either.
        else
          response
            .writeHead(307, { location: `${other.origin.replace("//", "//u:p@")}/${path.split("/").at(-1)}` })
            .end();
        return true;
      };
      assert.equal((await fixture.store.pull(`${registry.host}/a:x`)).id, good.digest);
      assert.equal(other.requests.length, 3);
      assert.deepEqual(
        new Set(other.requests.map(({ authorization }) => authorization)),
        new Set([undefined]),
      );
    });

    it("when the other host asks for them", async () => {
      using fixture = new StoreFixture();
      login(fixture, LOGIN);
      other.answer = (response) => response.writeHead(401, { "www-authenticate": "Basic" }).end();
      registry.intercept = (_, response, { path }) => {
        if (!path.includes("/blobs/")) return false;
        response.writeHead(307, { location: `${other.origin}/stolen` }).end();
        return true;
      };
      await assert.rejects(
        fixture.store.pull(`${registry.host}/a:x`),
        failsWith("IMAGE_UNAUTHORIZED", /config sha256:/),
      );
      assert.ok(other.requests.every(({ authorization }) => authorization === undefined));
    });

    it("when the chain of redirects comes back", async () => {
      using fixture = new StoreFixture();
      login(fixture, LOGIN);
      other.answer = (response) =>
        response.writeHead(307, { location: `http://${registry.host}/back` }).end();
      registry.intercept = (_, response, { path, authorization }) => {
        if (path === "/back") response.writeHead(404).end();
        else if (authorization !== BASIC) response.writeHead(401, { "www-authenticate": "Basic" }).end();
        else response.writeHead(307, { location: `${other.origin}/away` }).end();
        return true;
      };
      await assert.rejects(fixture.store.pull(`${registry.host}/a:x`), failsWith("IMAGE_NOT_FOUND", /./));
      assert.equal(registry.requests.at(-1)?.path, "/back");
      assert.equal(registry.requests.at(-1)?.authorization, undefined);
    });

    it("when the token server redirects", async () => {
      using fixture = new StoreFixture();
      login(fixture, { identitytoken: "refresh" });
      other.answer = (response) => response.writeHead(307, { location: "https://192.0.2.1/" }).end();
      demand(bearer('scope="s"'), () => false);
      await assert.rejects(
        fixture.store.pull(`${registry.host}/a:x`),
        failsWith("REGISTRY_ERROR", /redirects a token request/),
      );
    });
  });
});
