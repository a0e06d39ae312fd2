// SPDX-License-Identifier: Apache-2.0
import { corrupt, unsupported } from "../image-errors.ts";
import { formatPlatform, type Platform, platformDistance } from "../platform.ts";
import { check, parseJson } from "./json.ts";
import { configSchema, type ImageConfigDocument } from "./schema.ts";
import { platformOf } from "./select.ts";

/** How an image wants to be run. Source: OCI image-spec, config.md. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** `NAME=value`, in order. */
  readonly env: readonly string[];
  /** Empty if the image does not say. */
  readonly workingDir: string;
  /** `user`, `uid`, `user:group`, `uid:gid`; empty if the image does not say. */
  readonly user: string;
  readonly stopSignal?: string;
  readonly hostname?: string;
  /** `80/tcp`, `53/udp`, `8080`. */
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** What the store needs of an image's config blob. */
export interface ParsedConfig {
  readonly config: ImageConfig;
  readonly diffIds: readonly string[];
  /** The image's own date, if it has one. */
  readonly createdAt: Date | undefined;
  readonly platform: Platform;
}

/**
 * Parses a config blob whose digest was verified.
 *
 * @throws MicrovmError `IMAGE_CORRUPT`, or `IMAGE_UNSUPPORTED` if the image is for another platform than `wanted`
 */
export function parseConfig(bytes: Uint8Array, layerCount: number, wanted: Platform): ParsedConfig {
  const document = check(configSchema, parseJson(bytes, "config"), "config");
  const diffIds = document.rootfs.diff_ids;
  if (diffIds.length !== layerCount) {
    throw corrupt(`config: ${diffIds.length} diff_ids for ${layerCount} layers`);
  }
  return {
    config: imageConfig(document),
    diffIds,
    createdAt: date(document.created),
    platform: platform(document, wanted),
  };
}

/** Images without a word on their platform exist; they are taken to be what was asked for. */
function platform({ os, architecture, variant }: ImageConfigDocument, wanted: Platform): Platform {
  if (!os || !architecture) return wanted;
  const offered = platformOf({ os, architecture, variant });
  if (platformDistance(wanted, offered) === undefined) {
    throw unsupported(
      `no image for ${formatPlatform(wanted)}; offered: ${formatPlatform(offered)
        .replace(/[^\w./-]/g, "?")
        .slice(0, 64)}`,
      "Choose a platform the image is built for, or a different image.",
    );
  }
  return offered;
}

function imageConfig({ config }: ImageConfigDocument): ImageConfig {
  return {
    entrypoint: config?.Entrypoint ?? [],
    cmd: config?.Cmd ?? [],
    env: config?.Env ?? [],
    workingDir: config?.WorkingDir ?? "",
    user: config?.User ?? "",
    ...(config?.StopSignal ? { stopSignal: config.StopSignal } : {}),
    ...(config?.Hostname ? { hostname: config.Hostname } : {}),
    exposedPorts: Object.keys(config?.ExposedPorts ?? {}),
    volumes: Object.keys(config?.Volumes ?? {}),
    labels: config?.Labels ?? {},
  };
}

function date(text: string | undefined): Date | undefined {
  const time = Date.parse(text ?? "");
  return Number.isNaN(time) ? undefined : new Date(time);
}
