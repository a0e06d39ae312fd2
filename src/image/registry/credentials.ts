// SPDX-License-Identifier: Apache-2.0
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { isErrno, MicrovmError, messageOf } from "../../errors.ts";

/** How this user proves to a registry who they are. */
export type Credential =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A refresh token, to be exchanged at the token server. */
  | { readonly kind: "identity-token"; readonly token: string }
  /** A token for the registry itself. */
  | { readonly kind: "registry-token"; readonly token: string };

const entrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});

const configSchema = z.object({ auths: z.record(z.string(), entrySchema).nullish() });

/** Docker Hub's credentials are filed under the name it had in 2013. */
const DOCKER_HUB = ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];

/** Username that Docker writes beside an identity token. */
const TOKEN_USERNAME = "<token>";

/** Where `docker login` writes: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. */
export function dockerConfigPath(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(env.DOCKER_CONFIG || join(homedir(), ".docker"), "config.json");
}

/**
 * The credential that `docker login` stored for `registry`; undefined if there is none.
 *
 * @throws MicrovmError `INVALID_OPTION` if the file cannot be read: pulling without the login its owner made
 *   would fail later, and say something else.
 */
export async function findCredential(registry: string, path: string): Promise<Credential | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return undefined;
    throw unreadable(path, messageOf(error), error);
  }
  const auths = parseAuths(text, path);
  const wanted = registry === "docker.io" ? DOCKER_HUB : [registry];
  const exact = wanted.find((key) => Object.hasOwn(auths, key));
  const key = exact ?? Object.keys(auths).find((candidate) => wanted.includes(hostOf(candidate)));
  const entry = key === undefined ? undefined : auths[key];
  return entry && credentialOf(entry, path, registry);
}

function parseAuths(text: string, path: string): Readonly<Record<string, z.output<typeof entrySchema>>> {
  try {
    return configSchema.parse(JSON.parse(text)).auths ?? {};
  } catch (error) {
    // The text may hold secrets, and the messages of JSON.parse quote it: they stay out.
    throw unreadable(path, error instanceof z.ZodError ? "unexpected structure" : "not JSON");
  }
}

function credentialOf(
  entry: z.output<typeof entrySchema>,
  path: string,
  registry: string,
): Credential | undefined {
  if (entry.registrytoken) return { kind: "registry-token", token: entry.registrytoken };
  if (entry.identitytoken) return { kind: "identity-token", token: entry.identitytoken };
  let { username, password } = entry;
  if (entry.auth) {
    const decoded = Buffer.from(entry.auth, "base64").toString("utf8").replace(/\0+$/, "");
    const colon = decoded.indexOf(":");
    if (colon < 0)
      throw unreadable(path, `auths[${JSON.stringify(registry)}].auth is not base64 of USER:PASSWORD`);
    username = decoded.slice(0, colon);
    password = decoded.slice(colon + 1);
  }
  if (!username || password === undefined) return undefined;
  if (username === TOKEN_USERNAME) return { kind: "identity-token", token: password };
  return { kind: "password", username, password };
}

/** `https://host:port/v1/` → `host:port`. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, "").split("/", 1)[0] ?? "";
}

function unreadable(path: string, reason: string, cause?: unknown): MicrovmError {
  return new MicrovmError("INVALID_OPTION", `${path}: ${reason}`, {
    stage: "image",
    hint: "Repair or remove the file, or point DOCKER_CONFIG elsewhere.",
    cause,
  });
}
