// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { quoted } from "../image-errors.ts";
import { isLoopback } from "./endpoint.ts";
import { discard, type HttpClient, type HttpRequest, type HttpResponse } from "./http.ts";

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 5;

/**
 * Sends a request and follows redirects, as registries use them to hand blobs to a content network.
 *
 * `authorization` goes to the origin asked first and to no other; once a chain has left it, not even to that.
 *
 * @throws MicrovmError `REGISTRY_ERROR` for circles and for redirects to plain http
 */
export async function follow(
  http: HttpClient,
  request: HttpRequest,
  authorization: string | undefined,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  let url = request.url;
  let trusted = authorization;
  for (let hops = 0; ; hops += 1) {
    const headers = trusted === undefined ? request.headers : { ...request.headers, authorization: trusted };
    const response = await http.send({ ...request, url, headers }, signal);
    if (!REDIRECTS.has(response.status)) return response;
    discard(response);
    if (hops === MAX_REDIRECTS) throw refused(request.url, `more than ${MAX_REDIRECTS} redirects`);
    // A request with a body carries a secret: it is for the server it was written for.
    if (request.method === "POST") throw refused(request.url, "it redirects a token request");
    const next = target(response, url);
    if (next.origin !== url.origin) trusted = undefined;
    url = next;
  }
}

function target(response: HttpResponse, from: URL): URL {
  const location = response.header("location");
  const url = location === undefined ? null : URL.parse(location, from.href);
  if (url === null)
    throw refused(from, `it redirects to ${location === undefined ? "nowhere" : quoted(location)}`);
  const secure =
    url.protocol === "https:" || (url.protocol === "http:" && from.protocol === "http:" && isLoopback(url));
  if (!secure) throw refused(from, `it redirects to ${quoted(url.origin)}, which is not https`);
  url.username = "";
  url.password = "";
  return url;
}

function refused(from: URL, reason: string): MicrovmError {
  return new MicrovmError("REGISTRY_ERROR", `${from.host}: ${reason}`, {
    stage: "image",
    hint: "The registry is misconfigured, or something between here and there rewrites its answers.",
    evidence: { url: `${from.origin}${from.pathname}` },
  });
}
