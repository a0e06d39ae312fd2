// SPDX-License-Identifier: Apache-2.0
import * as z from "zod";
import { type ErrorCode, MicrovmError } from "../../errors.ts";
import { quoted } from "../image-errors.ts";
import { readDocument } from "./body.ts";
import type { HttpResponse } from "./http.ts";
import { parseRetryAfter, TransientFailure } from "./retry.ts";
import type { RegistryTuning } from "./tuning.ts";

const MAX_ERROR_BYTES = 16 * 1024;

/** Source: OCI distribution-spec, "Error Codes". */
const errorsSchema = z.object({
  errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1),
});

/**
 * Turns a response that is not a success into the error to throw: a `TransientFailure` for 429 and 5xx.
 *
 * @param what what was asked for, as a message names it: `manifest 12`
 */
export async function statusError(
  response: HttpResponse,
  what: string,
  tuning: RegistryTuning,
  signal: AbortSignal | undefined,
): Promise<Error> {
  const { status, url } = response;
  const { code, reason, hint } = verdict(status);
  const retryAfterMs = parseRetryAfter(response.header("retry-after"), Date.now());
  const wait = retryAfterMs ? `come back in ${Math.ceil(retryAfterMs / 1000)} s` : "";
  const said = await explanation(response, tuning, signal);
  const message = [what, url.host, reason, wait, said].filter((part) => part !== "").join(": ");
  const error = new MicrovmError(code, message, {
    stage: "image",
    hint,
    evidence: { status, url: `${url.origin}${url.pathname}` },
  });
  if (status !== 429 && status !== 408 && status < 500) return error;
  return new TransientFailure(error, retryAfterMs);
}

function verdict(status: number): { code: ErrorCode; reason: string; hint: string } {
  if (status === 401 || status === 403) {
    return {
      code: "IMAGE_UNAUTHORIZED",
      reason: status === 401 ? "authentication required" : "access denied",
      hint: "Log in with `docker login` (or check the name: registries say this of images that do not exist, too).",
    };
  }
  if (status === 404) {
    return {
      code: "IMAGE_NOT_FOUND",
      reason: "not found",
      hint: "Check the image's name, tag and registry.",
    };
  }
  if (status === 429) {
    return {
      code: "IMAGE_RATE_LIMITED",
      reason: "too many requests",
      hint: "Wait, log in for a higher limit, or use a mirror.",
    };
  }
  return {
    code: "REGISTRY_ERROR",
    reason: `HTTP status ${status}`,
    hint:
      status >= 500
        ? "The registry has trouble: try again later."
        : "The registry did not accept the request.",
  };
}

/** What the registry itself says went wrong, made safe to print; empty if it says nothing. */
async function explanation(
  response: HttpResponse,
  tuning: RegistryTuning,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    const body = await readDocument(response, MAX_ERROR_BYTES, "error", tuning, signal);
    const first = errorsSchema.parse(JSON.parse(body.toString("utf8"))).errors[0];
    return quoted([first?.code, first?.message].filter(Boolean).join(" ")).slice(1, -1);
  } catch {
    signal?.throwIfAborted();
    return ""; // no explanation, or none that can be read: the status has to do
  }
}
