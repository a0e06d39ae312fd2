// SPDX-License-Identifier: Apache-2.0
import { unsupported } from "../image-errors.ts";
import { formatPlatform, type Platform, platformDistance } from "../platform.ts";
import { manifestKind } from "./media-types.ts";
import type { ImageIndex, IndexEntry } from "./schema.ts";

/** At most this many platforms are listed in a message; an index may hold tens of thousands. */
const MAX_LISTED = 12;

/**
 * The entry of an index made for `wanted`, or for the nearest lower variant of it.
 *
 * Entries without a platform are candidates only when there is no other; the image's config then decides.
 *
 * @throws MicrovmError `IMAGE_UNSUPPORTED` listing what is offered
 */
export function selectManifest(index: ImageIndex, wanted: Platform): IndexEntry {
  const images = index.manifests.filter(isImage);
  let best: { entry: IndexEntry; distance: number } | undefined;
  for (const entry of images) {
    if (entry.platform === undefined) continue;
    const distance = platformDistance(wanted, platformOf(entry.platform));
    // The first of equals wins, as in every other client.
    if (distance !== undefined && distance < (best?.distance ?? Number.POSITIVE_INFINITY))
      best = { entry, distance };
  }
  if (best !== undefined) return best.entry;
  const [only, ...others] = images.filter((entry) => entry.platform === undefined);
  if (only !== undefined && others.length === 0) return only;
  throw unsupported(
    `no image for ${formatPlatform(wanted)}; offered: ${listed(images) || "nothing"}`,
    "Choose one of the offered platforms, or a different image.",
  );
}

/** A platform as an index or a config spells it. */
export function platformOf(found: {
  os: string;
  architecture: string;
  variant?: string | undefined;
}): Platform {
  const { os, architecture, variant } = found;
  return variant ? { os, architecture, variant } : { os, architecture };
}

/** Leaves out attestations (which BuildKit lists as platform unknown/unknown), artifacts and unknown types. */
function isImage(entry: IndexEntry): boolean {
  if (entry.annotations?.["vnd.docker.reference.type"] !== undefined) return false;
  if (entry.platform?.os === "unknown" || entry.artifactType !== undefined) return false;
  const kind = manifestKind(entry.mediaType);
  return kind === "manifest" || kind === "index";
}

function listed(entries: readonly IndexEntry[]): string {
  const names = entries.flatMap(({ platform }) => (platform ? formatPlatform(platformOf(platform)) : []));
  const printable = [...new Set(names)].filter((name) => /^[\w./-]{1,64}$/.test(name));
  const more = printable.length - MAX_LISTED;
  return printable.slice(0, MAX_LISTED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
