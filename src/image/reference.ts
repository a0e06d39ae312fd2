// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";
import { isDigest } from "./digest.ts";

/** What an image is called: where it is served and which version of it. */
export interface Reference {
  /** Host and optional port: `docker.io`, `ghcr.io`, `localhost:5000`, `[::1]:5000`. */
  readonly registry: string;
  /** Path within the registry: `library/debian`. */
  readonly repository: string;
  /** `latest` when the text had neither tag nor digest. */
  readonly tag?: string;
  /** Pins the content; the tag, if any, is then only a label. */
  readonly digest?: string;
  /** Fully qualified: `docker.io/library/debian:12`. Parses to an equal reference. */
  toString(): string;
}

const DEFAULT_REGISTRY = "docker.io";
const LEGACY_DEFAULT_REGISTRY = "index.docker.io";
const OFFICIAL_PREFIX = "library/";
const DEFAULT_TAG = "latest";
const MAX_REPOSITORY_CHARS = 255;
/** Registry (a DNS name has at most 253), repository, tag and digest at their longest, with room to spare. */
const MAX_REFERENCE_CHARS = 1024;

const DOMAIN =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$/;
const PATH = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const IDENTIFIER = /^[a-f0-9]{64}$/;

/**
 * Parses an image reference by the grammar of the distribution project's `reference` package, with Docker's
 * defaults: registry `docker.io`, `library/` for one-word names there, tag `latest`.
 *
 * Source: github.com/distribution/reference, regexp.go and normalize.go.
 *
 * @param text for example `debian`, `ghcr.io/org/app:v1`, `localhost:5000/x@sha256:…`
 * @throws MicrovmError `INVALID_REFERENCE`
 */
export function parseReference(text: string): Reference {
  if (text === "") throw invalid(text, "it is empty");
  if (text.length > MAX_REFERENCE_CHARS) throw invalid(text, `longer than ${MAX_REFERENCE_CHARS} characters`);
  if (IDENTIFIER.test(text)) throw invalid(text, "64 hexadecimal characters are an image id, not a name");

  const { registry, remainder } = splitRegistry(text);
  const { repository, tag, digest } = splitRemainder(text, remainder);
  if (!isRegistry(registry)) throw invalid(text, `${JSON.stringify(registry)} is not a registry host`);
  if (!PATH.test(repository)) throw invalid(text, whyNotRepository(repository));
  if (repository.length > MAX_REPOSITORY_CHARS) {
    throw invalid(text, `the repository name is longer than ${MAX_REPOSITORY_CHARS} characters`);
  }
  if (tag !== undefined && !TAG.test(tag)) throw invalid(text, `${JSON.stringify(tag)} is not a tag`);
  if (digest !== undefined && !isDigest(digest)) {
    throw invalid(text, `${JSON.stringify(digest)} is not a sha256 or sha512 digest`);
  }
  return new ImageReference(registry, repository, tag ?? (digest ? undefined : DEFAULT_TAG), digest);
}

/** The name a person would type: without `docker.io/` and `library/`, unless it would then mean something else. */
export function familiarName(reference: Reference): string {
  const full = reference.toString();
  if (reference.registry !== DEFAULT_REGISTRY) return full;
  const path = full.slice(DEFAULT_REGISTRY.length + 1);
  const short = path.startsWith(OFFICIAL_PREFIX) ? path.slice(OFFICIAL_PREFIX.length) : path;
  return [short, path].find((text) => !IDENTIFIER.test(text) && isSameName(text, reference)) ?? full;
}

function isSameName(text: string, { registry, repository }: Reference): boolean {
  const { registry: host, remainder } = splitRegistry(text);
  return host === registry && splitRemainder(text, remainder).repository === repository;
}

/** The same image pinned to `digest`, without its tag. */
export function pinned(reference: Reference, digest: string): Reference {
  return new ImageReference(reference.registry, reference.repository, undefined, digest);
}

class ImageReference implements Reference {
  readonly registry: string;
  readonly repository: string;
  declare readonly tag?: string;
  declare readonly digest?: string;

  constructor(registry: string, repository: string, tag: string | undefined, digest: string | undefined) {
    this.registry = registry;
    this.repository = repository;
    if (tag !== undefined) this.tag = tag;
    if (digest !== undefined) this.digest = digest;
  }

  toString(): string {
    const tag = this.tag === undefined ? "" : `:${this.tag}`;
    const digest = this.digest === undefined ? "" : `@${this.digest}`;
    return `${this.registry}/${this.repository}${tag}${digest}`;
  }
}

/**
 * The first component names a registry only if it looks like a host: it has a dot or a port, is `localhost`, or
 * has upper-case letters, which no repository may have.
 */
function splitRegistry(text: string): { registry: string; remainder: string } {
  const slash = text.indexOf("/");
  const first = slash < 0 ? "" : text.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const registry = !isHost || first === LEGACY_DEFAULT_REGISTRY ? DEFAULT_REGISTRY : first;
  const remainder = isHost ? text.slice(slash + 1) : text;
  const official = registry === DEFAULT_REGISTRY && !remainder.includes("/");
  return { registry, remainder: official ? OFFICIAL_PREFIX + remainder : remainder };
}

function splitRemainder(text: string, remainder: string) {
  const at = remainder.indexOf("@");
  const digest = at < 0 ? undefined : remainder.slice(at + 1);
  const named = at < 0 ? remainder : remainder.slice(0, at);
  const colon = named.indexOf(":");
  const tag = colon < 0 ? undefined : named.slice(colon + 1);
  const repository = colon < 0 ? named : named.slice(0, colon);
  if (repository === "" || repository === OFFICIAL_PREFIX)
    throw invalid(text, "the repository name is missing");
  return { repository, tag, digest };
}

function isRegistry(registry: string): boolean {
  if (!DOMAIN.test(registry)) return false;
  const port = /:(\d+)$/.exec(registry)?.[1];
  // Beyond the grammar: what cannot be dialled is refused here rather than by the URL parser later.
  return (port === undefined || Number(port) <= 65_535) && URL.canParse(`https://${registry}/`);
}

function whyNotRepository(repository: string): string {
  if (repository !== repository.toLowerCase()) return "the repository name must be lower-case";
  return `${JSON.stringify(repository)} is not a repository name`;
}

function invalid(text: string, reason: string): MicrovmError {
  const shown = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return new MicrovmError(
    "INVALID_REFERENCE",
    `invalid image reference ${JSON.stringify(shown)}: ${reason}`,
    {
      stage: "image",
      hint: "Write it as [REGISTRY[:PORT]/]REPOSITORY[:TAG][@DIGEST], for example debian:12 or ghcr.io/org/app:v1.",
    },
  );
}
