// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

type Env = Readonly<Record<string, string | undefined>>;

/** Options of npm's fetcher, under the names it gives them. */
export type NpmOptions = Record<string, unknown>;

const NAMES: Readonly<Record<string, string>> = {
  registry: "registry",
  proxy: "proxy",
  "https-proxy": "httpsProxy",
  noproxy: "noProxy",
  cafile: "cafile",
  ca: "ca",
  cert: "cert",
  key: "key",
  "strict-ssl": "strictSSL",
  "local-address": "localAddress",
  "fetch-timeout": "timeout",
  "replace-registry-host": "replaceRegistryHost",
};

/**
 * The user's own registry settings: mirror, credentials, proxy, certificates. Read from the global and the user's
 * npmrc and `npm_config_*` variables; never from the working directory, which may be anybody's.
 *
 * Source: npm's npmrc(5) and config(7).
 */
export function npmOptions(env: Env = process.env): NpmOptions {
  const settings = new Map<string, string>();
  const prefix = variable(env, "prefix") ?? dirname(dirname(process.execPath));
  for (const path of [
    variable(env, "globalconfig") ?? join(prefix, "etc", "npmrc"),
    variable(env, "userconfig") ?? join(homedir(), ".npmrc"),
  ]) {
    for (const [key, value] of parseNpmrc(readText(path), env)) settings.set(key, value);
  }
  for (const key of Object.keys(NAMES)) {
    const value = variable(env, key);
    if (value) settings.set(key, value);
  }
  for (const [name, value] of Object.entries(env)) {
    // Scoped registries and credentials keep their spelling: npm_config_@scope:registry, npm_config_//host/:_authToken
    const key = /^npm_config_((?:@|\/\/).+)$/i.exec(name)?.[1];
    if (key && value) settings.set(key, value);
  }
  return toOptions(settings);
}

/** `key = value` lines; `${NAME}` is the environment's. Source: npmrc(5). */
export function parseNpmrc(text: string, env: Env): Map<string, string> {
  const settings = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*([^;#=\s[][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
    if (!match?.[1] || match[2] === undefined) continue;
    const value = match[2].replace(/^(["'])(.*)\1$/, "$2");
    settings.set(
      match[1],
      value.replace(
        /\$\{([^}?]+)(\??)\}/g,
        (all, name: string, optional: string) => env[name] ?? (optional ? "" : all),
      ),
    );
  }
  return settings;
}

function toOptions(settings: ReadonlyMap<string, string>): NpmOptions {
  const options: NpmOptions = {};
  for (const [key, value] of settings) {
    if (key.startsWith("@") || key.startsWith("//")) options[key] = value;
    const name = NAMES[key];
    if (name === undefined || value === "" || value === "null") continue;
    if (name === "strictSSL") options[name] = value !== "false";
    else if (name === "timeout") options[name] = Number(value) || undefined;
    else if (name === "cafile") options.ca = readText(value).split(/(?<=-----END CERTIFICATE-----)/);
    else if (name === "ca" || name === "cert" || name === "key")
      options[name] = value.replaceAll("\\n", "\n");
    else options[name] = value;
  }
  const proxy = options.httpsProxy ?? process.env.HTTPS_PROXY ?? process.env.https_proxy;
  if (proxy !== undefined) options.httpsProxy = proxy;
  return options;
}

function variable(env: Env, key: string): string | undefined {
  const name = `npm_config_${key.replaceAll("-", "_")}`;
  return env[name] ?? env[name.toUpperCase()];
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // most people have no such file
  }
}
