// SPDX-License-Identifier: Apache-2.0
import type { Agent, Dispatcher } from "undici";
import { MicrovmError, messageOf } from "../../errors.ts";
import { quoted } from "../image-errors.ts";
import { TransientFailure } from "./retry.ts";
import type { RegistryTuning } from "./tuning.ts";

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface HttpResponse {
  readonly status: number;
  /** The first value of each header, names in lower case. */
  header(name: string): string | undefined;
  /** All values of a header. */
  headers(name: string): readonly string[];
  /** What was asked last, after redirects. */
  readonly url: URL;
  readonly body: Dispatcher.ResponseData["body"];
}

/** Failures that the same request will meet again: they are not retried. */
const PERMANENT: Readonly<Record<string, string>> = {
  ENOTFOUND: "Check the registry's name and this machine's DNS.",
  CERT_HAS_EXPIRED: "The registry's certificate has expired.",
  DEPTH_ZERO_SELF_SIGNED_CERT: "The registry's certificate is self-signed: add it to NODE_EXTRA_CA_CERTS.",
  SELF_SIGNED_CERT_IN_CHAIN: "Add the registry's certificate authority to NODE_EXTRA_CA_CERTS.",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "Add the registry's certificate authority to NODE_EXTRA_CA_CERTS.",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "Add the registry's certificate authority to NODE_EXTRA_CA_CERTS.",
  ERR_TLS_CERT_ALTNAME_INVALID: "The registry's certificate is for another host.",
  ERR_SSL_WRONG_VERSION_NUMBER: "The registry does not speak HTTPS, which all but loopback registries must.",
  ERR_SSL_PACKET_LENGTH_TOO_LONG:
    "The registry does not speak HTTPS, which all but loopback registries must.",
  UND_ERR_HEADERS_OVERFLOW: "What answers there is not a registry, or means harm.",
  HTTPParserError: "What answers there is not a registry, or means harm.",
};

const NOT_A_REGISTRY: ReadonlySet<string> = new Set(["UND_ERR_HEADERS_OVERFLOW", "HTTPParserError"]);

const MAX_HEADER_BYTES = 64 * 1024;
/** What is read of a body nobody wants, so that its connection can serve the next request. */
const MAX_DISCARDED_BYTES = 64 * 1024;

/** Connections to registries, for the length of one pull. */
export class HttpClient {
  readonly #tuning: RegistryTuning;
  #agent: Promise<Agent> | undefined;

  constructor(tuning: RegistryTuning) {
    this.#tuning = tuning;
  }

  /**
   * One request, one response; no redirects, no retries.
   *
   * @throws TransientFailure if the connection failed or stalled
   * @throws MicrovmError `REGISTRY_UNREACHABLE`, `REGISTRY_ERROR`
   */
  async send(request: HttpRequest, signal: AbortSignal | undefined): Promise<HttpResponse> {
    const { method, url, headers, body } = request;
    this.#agent ??= createAgent(this.#tuning);
    const agent = await this.#agent;
    try {
      const response = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers,
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      });
      // A body that is dropped half read fails later, when nobody listens any more.
      response.body.on("error", () => {});
      return wrap(response, url);
    } catch (error) {
      signal?.throwIfAborted();
      throw transportFailure(error, url);
    }
  }

  /** Drops all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#agent)?.destroy();
  }
}

/** Reads and drops what is left of a response, but not more than is cheap. */
export function discard(response: HttpResponse): void {
  response.body.dump({ limit: MAX_DISCARDED_BYTES }).catch(() => {
    // Its connection is gone: no loss.
  });
}

/** What a connection that broke means for the pull. */
export function transportFailure(error: unknown, url: URL): Error {
  const code = codeOf(error);
  const hint = PERMANENT[code];
  const failure = new MicrovmError(
    NOT_A_REGISTRY.has(code) ? "REGISTRY_ERROR" : "REGISTRY_UNREACHABLE",
    `${url.host}: ${describe(error, code)}`,
    {
      stage: "image",
      hint: hint ?? "Check that the registry runs and that this machine can reach it.",
      cause: error,
      evidence: { url: `${url.origin}${url.pathname}`, ...(code === "" ? {} : { errno: code }) },
    },
  );
  return hint !== undefined ? failure : new TransientFailure(failure);
}

async function createAgent(tuning: RegistryTuning): Promise<Agent> {
  const { Agent } = await import("undici");
  // Less than one read of a socket: chunks are then handed on one by one, and not joined into longer ones first.
  const connect = { timeout: tuning.connectTimeoutMs, highWaterMark: 16 * 1024 };
  return new Agent({
    connect,
    headersTimeout: tuning.headersTimeoutMs,
    bodyTimeout: tuning.stallTimeoutMs,
    maxHeaderSize: MAX_HEADER_BYTES,
    allowH2: false,
  });
}

function wrap(response: Dispatcher.ResponseData, url: URL): HttpResponse {
  const headers = (name: string): readonly string[] => {
    const value = response.headers[name];
    return value === undefined ? [] : typeof value === "string" ? [value] : value;
  };
  return {
    status: response.statusCode,
    header: (name) => headers(name)[0],
    headers,
    url,
    body: response.body,
  };
}

function codeOf(error: unknown): string {
  // Several addresses were tried: the first failure speaks for all.
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  if (!(error instanceof Error)) return "";
  // Its codes are as many as there are ways not to speak HTTP.
  if (error.name === "HTTPParserError") return error.name;
  return "code" in error ? String(error.code) : "";
}

function describe(error: unknown, code: string): string {
  switch (code) {
    case "ECONNREFUSED":
      return "connection refused";
    case "ECONNRESET":
    case "UND_ERR_SOCKET":
    case "EPIPE":
      return "connection lost";
    case "UND_ERR_HEADERS_TIMEOUT":
      return "no answer";
    case "UND_ERR_BODY_TIMEOUT":
      return "stalled";
    case "UND_ERR_CONNECT_TIMEOUT":
    case "ETIMEDOUT":
      return "connection timed out";
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "no such host";
    case "UND_ERR_HEADERS_OVERFLOW":
      return "headers too long";
    case "HTTPParserError":
      return "what answers does not speak HTTP";
    default:
      return quoted(messageOf(error)).slice(1, -1);
  }
}
