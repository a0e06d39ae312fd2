// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";

/** What an image runs on, in Go's names. Source: OCI image-spec, image-index.md, "platform". */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

const GO_ARCHITECTURE: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  arm: "arm",
  ia32: "386",
  ppc64: "ppc64le",
  riscv64: "riscv64",
  s390x: "s390x",
  loong64: "loong64",
};

/** Names other tools use for the same architecture. Source: containerd, platforms/database.go. */
const ALIASES: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  aarch64: "arm64",
  armhf: "arm/v7",
  armel: "arm/v6",
  i386: "386",
};

/** The variant a bare architecture means; images for it leave the variant out. */
const IMPLIED_VARIANT: Readonly<Record<string, string>> = { arm64: "v8", arm: "v7", amd64: "v1" };

/** Linux on this machine's processor: every image runs in a Linux guest, whatever the host. */
export function hostPlatform(): Platform {
  return normalizePlatform({ os: "linux", architecture: GO_ARCHITECTURE[process.arch] ?? process.arch });
}

/**
 * Parses `os/arch[/variant]` or just `arch[/variant]`.
 *
 * @throws MicrovmError `INVALID_OPTION`
 */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split("/");
  if (parts.length > 3 || !parts.every((part) => /^[a-z0-9_.-]{1,64}$/.test(part))) throw invalid(text);
  const hasOs =
    parts.length === 3 || (parts.length === 2 && !parts[1]?.startsWith("v")) || parts[0] === "linux";
  const [os, architecture, variant] = hasOs ? parts : ["linux", ...parts];
  if (os === undefined || architecture === undefined) throw invalid(text);
  return normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

/** The one spelling of each platform: aliases resolved, an implied variant left out. */
export function normalizePlatform(platform: Platform): Platform {
  const { os } = platform;
  const [architecture = "", implied] = (ALIASES[platform.architecture] ?? platform.architecture).split("/");
  const variant = platform.variant || implied;
  const spoken = variant?.startsWith("v") || !variant ? variant : `v${variant}`;
  if (!spoken || spoken === IMPLIED_VARIANT[architecture]) return { os, architecture };
  return { os, architecture, variant: spoken };
}

/** `linux/arm64`, `linux/arm/v6`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return variant ? `${os}/${architecture}/${variant}` : `${os}/${architecture}`;
}

/**
 * How well an image made for `offered` suits a machine that wants `wanted`: undefined if it cannot run there,
 * else smaller is better. A processor runs the variants below its own.
 */
export function platformDistance(wanted: Platform, offered: Platform): number | undefined {
  const want = normalizePlatform(wanted);
  const offer = normalizePlatform(offered);
  if (want.os !== offer.os || want.architecture !== offer.architecture) return undefined;
  const distance = variantNumber(want) - variantNumber(offer);
  return distance >= 0 ? distance : undefined;
}

function variantNumber({ architecture, variant }: Platform): number {
  const number = Number.parseFloat((variant ?? IMPLIED_VARIANT[architecture] ?? "v0").slice(1));
  return Number.isNaN(number) ? Number.POSITIVE_INFINITY : number;
}

function invalid(text: string): MicrovmError {
  return new MicrovmError(
    "INVALID_OPTION",
    `platform ${JSON.stringify(text.slice(0, 120))} is not OS/ARCH[/VARIANT]`,
    {
      stage: "image",
      hint: "Write for example linux/amd64 or linux/arm64.",
    },
  );
}
