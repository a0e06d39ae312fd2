// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";
import type { Catalog, CatalogImage } from "./catalog.ts";
import { isDigest } from "./digest.ts";
import type { StoreLayout } from "./layout.ts";
import { formatPlatform, hostPlatform, type Platform, parsePlatform, platformDistance } from "./platform.ts";
import { missingFiles } from "./presence.ts";
import { familiarName, parseReference, pinned, type Reference } from "./reference.ts";

/** What `reference` leads to without asking anyone, if all of it is here. */
export function findLocal(
  catalog: Catalog,
  layout: StoreLayout,
  reference: Reference,
  platform: Platform,
): CatalogImage | undefined {
  const wanted = formatPlatform(platform);
  const named = catalog.reference(storedName(reference), wanted);
  const ids = named ? [named.imageId] : [];
  if (reference.digest !== undefined) {
    // The digest of a manifest is the image's id; that of an index, some other name may have led to.
    ids.push(
      reference.digest,
      ...catalog.referencesTo(reference.digest, wanted).map(({ imageId }) => imageId),
    );
  }
  for (const id of ids) {
    const image = catalog.image(id);
    const suits = image && platformDistance(platform, parsePlatform(image.platform)) !== undefined;
    if (suits && missingFiles(layout, image).length === 0) return image;
  }
  return undefined;
}

/**
 * The image of this name, else of this id or unambiguous start of an id's hex; its files may be gone.
 *
 * @param platform which of the images of this name; default this machine's
 * @throws MicrovmError `INVALID_REFERENCE` if several ids start so
 */
export function lookUp(catalog: Catalog, refOrId: string, platform?: string): CatalogImage | undefined {
  const name = nameOf(refOrId);
  const wanted = formatPlatform(platform === undefined ? hostPlatform() : parsePlatform(platform));
  const named = name === undefined ? undefined : catalog.reference(name, wanted);
  if (named) return catalog.image(named.imageId);
  const prefix = isDigest(refOrId) ? refOrId : /^(?:sha256:)?([0-9a-f]{4,64})$/.exec(refOrId)?.[1];
  if (prefix === undefined) return undefined;
  const [id, another] = catalog.idsStartingWith(prefix.includes(":") ? prefix : `sha256:${prefix}`);
  if (another !== undefined) {
    throw new MicrovmError("INVALID_REFERENCE", `${refOrId}: the start of more than one image's id`, {
      stage: "image",
      hint: "Write more of the id.",
    });
  }
  return id === undefined ? undefined : catalog.image(id);
}

/** The name that `refOrId` would be filed under, if it is a reference. */
export function nameOf(refOrId: string): string | undefined {
  try {
    return storedName(parseReference(refOrId));
  } catch {
    return undefined; // not a reference: it can still be an id
  }
}

/** What a reference is filed under. A tag beside a digest is a label: it does not decide what the name means. */
export function storedName(reference: Reference): string {
  return (reference.digest === undefined ? reference : pinned(reference, reference.digest)).toString();
}

/** A filed name as a person would type it. */
export function shownName(name: string): string {
  return familiarName(parseReference(name));
}
