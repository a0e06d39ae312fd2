// SPDX-License-Identifier: Apache-2.0
import * as z from "zod";
import { MicrovmError } from "../../errors.ts";
import { quoted } from "../image-errors.ts";
import { readDocument } from "./body.ts";
import type { Challenge } from "./challenge.ts";
import type { Credential } from "./credentials.ts";
import { isLoopback } from "./endpoint.ts";
import type { HttpClient, HttpRequest } from "./http.ts";
import { follow } from "./redirect.ts";
import { Backoff, retrying } from "./retry.ts";
import { statusError } from "./status.ts";
import type { RegistryTuning } from "./tuning.ts";

const CLIENT_ID = "ts-microvm";
const MAX_TOKEN_BYTES = 64 * 1024;

const tokenSchema = z.object({ token: z.string().nullish(), access_token: z.string().nullish() });

/**
 * Answers a registry's challenges, and remembers the `Authorization` that worked.
 *
 * Source: distribution-spec; docs.docker.com "Registry authentication" (token and OAuth2 flows); RFC 7617.
 */
export class Authorizer {
  readonly #http: HttpClient;
  readonly #registry: URL;
  readonly #scope: string;
  readonly #credential: Credential | undefined;
  readonly #tuning: RegistryTuning;
  #header: string | undefined;
  #answering: Promise<string | undefined> | undefined;

  constructor(
    http: HttpClient,
    registry: URL,
    repository: string,
    credential: Credential | undefined,
    tuning: RegistryTuning,
  ) {
    this.#http = http;
    this.#registry = registry;
    this.#scope = `repository:${repository}:pull`;
    this.#credential = credential;
    this.#tuning = tuning;
    if (credential?.kind === "registry-token") this.#header = bearer(credential.token);
  }

  /** What to send along; undefined before the first challenge. */
  get header(): string | undefined {
    return this.#header;
  }

  /**
   * Finds an answer to the challenges that `used` met. Requests that are refused at the same time, as happens
   * when a token expires, share one answer.
   *
   * @returns false if there is nothing better to send than `used`
   */
  async answer(
    challenges: readonly Challenge[],
    used: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (this.#header !== used) return true;
    this.#answering ??= this.#find(challenges, signal).finally(() => {
      this.#answering = undefined;
    });
    const found = await this.#answering;
    if (found !== undefined) this.#header = found;
    return found !== undefined && found !== used;
  }

  async #find(
    challenges: readonly Challenge[],
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const offered = challenges.find(({ scheme }) => scheme === "bearer");
    if (offered) return bearer(await this.#fetchToken(offered, signal));
    const basic = challenges.some(({ scheme }) => scheme === "basic");
    return basic && this.#credential?.kind === "password" ? basicHeader(this.#credential) : undefined;
  }

  async #fetchToken({ parameters }: Challenge, signal: AbortSignal | undefined): Promise<string> {
    const realm = this.#realm(parameters.get("realm"));
    const service = parameters.get("service");
    const scope = parameters.get("scope") || this.#scope;
    const request = tokenRequest(realm, service, scope, this.#credential);
    const authorization = this.#credential?.kind === "password" ? basicHeader(this.#credential) : undefined;
    return retrying(new Backoff(this.#tuning, signal), async () => {
      const response = await follow(this.#http, request, authorization, signal);
      if (response.status !== 200) throw await statusError(response, "token", this.#tuning, signal);
      return parseToken(await readDocument(response, MAX_TOKEN_BYTES, "token", this.#tuning, signal), realm);
    });
  }

  /** Credentials go to the realm, so nobody on the way may read them: https, unless all of it is on this machine. */
  #realm(text: string | undefined): URL {
    const realm = URL.parse(text ?? "", this.#registry.href);
    const local = realm?.protocol === "http:" && isLoopback(realm) && isLoopback(this.#registry);
    if (realm === null || !text || !(realm.protocol === "https:" || local)) {
      throw refusal(
        this.#registry,
        `its token server is ${quoted(text ?? "(none)")}, which is not an https URL`,
      );
    }
    realm.username = "";
    realm.password = "";
    return realm;
  }
}

function tokenRequest(
  realm: URL,
  service: string | undefined,
  scope: string,
  credential: Credential | undefined,
): HttpRequest {
  const query = new URLSearchParams({ ...(service ? { service } : {}), scope });
  if (credential?.kind === "identity-token") {
    query.set("grant_type", "refresh_token");
    query.set("client_id", CLIENT_ID);
    query.set("refresh_token", credential.token);
    const headers = { accept: "application/json", "content-type": "application/x-www-form-urlencoded" };
    return { method: "POST", url: realm, headers, body: query.toString() };
  }
  const url = new URL(realm);
  if (credential?.kind === "password") query.set("account", credential.username);
  for (const [name, value] of query) url.searchParams.set(name, value);
  return { method: "GET", url, headers: { accept: "application/json" } };
}

function parseToken(body: Buffer, realm: URL): string {
  let parsed: z.output<typeof tokenSchema> | undefined;
  try {
    parsed = tokenSchema.parse(JSON.parse(body.toString("utf8")));
  } catch {
    // Neither the body nor what the parser says of it is shown: it may hold a token.
  }
  const token = parsed?.token || parsed?.access_token;
  // Anything else would end up as a header of its own.
  if (!token || !/^[\x21-\x7e]+$/.test(token)) throw refusal(realm, "its answer holds no token");
  return token;
}

function bearer(token: string): string {
  return `Bearer ${token}`;
}

function basicHeader({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

function refusal(server: URL, reason: string): MicrovmError {
  return new MicrovmError("REGISTRY_ERROR", `${server.host}: ${reason}`, {
    stage: "image",
    hint: "The registry's token authentication is misconfigured.",
  });
}
