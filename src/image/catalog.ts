// SPDX-License-Identifier: Apache-2.0
import type { DatabaseSync } from "node:sqlite";
import { openDatabase, transaction } from "../internal/sqlite.ts";
import type { ImageConfig } from "./manifest/config.ts";

const MIGRATIONS = [
  `
  CREATE TABLE images (
    id TEXT PRIMARY KEY,
    platform TEXT NOT NULL,
    config TEXT NOT NULL,
    config_digest TEXT NOT NULL,
    rootfs_key TEXT NOT NULL,
    rootfs_bytes INTEGER NOT NULL,
    built_at INTEGER,
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX images_by_rootfs ON images (rootfs_key);
  CREATE INDEX images_by_config ON images (config_digest);
  CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (image_id, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id);
  CREATE TABLE image_references (
    reference TEXT NOT NULL,
    platform TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    target TEXT NOT NULL,
    PRIMARY KEY (reference, platform)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_references_by_image ON image_references (image_id);
  CREATE INDEX image_references_by_target ON image_references (target);
  CREATE TABLE leases (
    image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    holder TEXT NOT NULL,
    PRIMARY KEY (image_id, holder)
  ) STRICT, WITHOUT ROWID;
  `,
];

export interface CatalogLayer {
  readonly diffId: string;
  /** Of the tar, without padding. */
  readonly size: number;
}

/** An image as the catalog knows it; whether its files are still there is another question. */
export interface CatalogImage {
  /** Digest of its manifest. */
  readonly id: string;
  readonly platform: string;
  readonly config: ImageConfig;
  readonly configDigest: string;
  readonly rootfsKey: string;
  readonly rootfsBytes: number;
  readonly layers: readonly CatalogLayer[];
  /** Milliseconds since 1970, by the image's own account. */
  readonly builtAt: number | undefined;
  /** When it was pulled. */
  readonly createdAt: number;
}

/** What a name led to when it was last resolved. */
export interface CatalogReference {
  readonly reference: string;
  /** The platform that was asked for. */
  readonly platform: string;
  readonly imageId: string;
  /** Digest of the document the name stands for: an index, or the manifest itself. */
  readonly target: string;
}

interface ImageRow {
  readonly id: string;
  readonly platform: string;
  readonly config: string;
  readonly config_digest: string;
  readonly rootfs_key: string;
  readonly rootfs_bytes: number;
  readonly built_at: number | null;
  readonly created_at: number;
}

/** Rows of the store's database. Several processes use it at once. */
export class Catalog {
  readonly #db: DatabaseSync;

  private constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** @throws MicrovmError `STATE_CORRUPT` if the file is no catalog, or one of a newer release */
  static open(path: string): Catalog {
    return new Catalog(openDatabase(path, MIGRATIONS));
  }

  close(): void {
    this.#db.close();
  }

  /** Runs `body` while no other process writes. */
  exclusively<T>(body: () => T): T {
    return transaction(this.#db, body);
  }

  reference(reference: string, platform: string): CatalogReference | undefined {
    return this.#references("WHERE reference = ? AND platform = ?", reference, platform)[0];
  }

  /** For all platforms. */
  referencesNamed(reference: string): CatalogReference[] {
    return this.#references("WHERE reference = ? ORDER BY platform", reference);
  }

  referencesOf(imageId: string): CatalogReference[] {
    return this.#references("WHERE image_id = ? ORDER BY reference", imageId);
  }

  /** Images that a name led to by way of the index or manifest `target`. */
  referencesTo(target: string, platform: string): CatalogReference[] {
    return this.#references("WHERE target = ? AND platform = ?", target, platform);
  }

  image(id: string): CatalogImage | undefined {
    return this.#images("WHERE id = ?", id)[0];
  }

  /** Most recent first. */
  images(): CatalogImage[] {
    return this.#images("ORDER BY created_at DESC, id");
  }

  /** Ids that start with `prefix`; at most two, which is enough to tell that one is ambiguous. */
  idsStartingWith(prefix: string): string[] {
    const rows = this.#db.prepare("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2");
    return rows.all(prefix, `${prefix}~`).map((row) => String(row.id));
  }

  putImage(image: CatalogImage): void {
    this.#db
      .prepare(
        `INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
           rootfs_key = excluded.rootfs_key, rootfs_bytes = excluded.rootfs_bytes, created_at = excluded.created_at`,
      )
      .run(
        image.id,
        image.platform,
        JSON.stringify(image.config),
        image.configDigest,
        image.rootfsKey,
        image.rootfsBytes,
        image.builtAt ?? null,
        image.createdAt,
      );
    this.#db.prepare("DELETE FROM image_layers WHERE image_id = ?").run(image.id);
    const insert = this.#db.prepare("INSERT INTO image_layers VALUES (?, ?, ?, ?)");
    for (const [position, { diffId, size }] of image.layers.entries())
      insert.run(image.id, position, diffId, size);
  }

  putReference({ reference, platform, imageId, target }: CatalogReference): void {
    this.#db
      .prepare(
        `INSERT INTO image_references VALUES (?, ?, ?, ?) ON CONFLICT (reference, platform) DO UPDATE SET
           image_id = excluded.image_id, target = excluded.target`,
      )
      .run(reference, platform, imageId, target);
  }

  deleteReference(reference: string, imageId: string): void {
    this.#db
      .prepare("DELETE FROM image_references WHERE reference = ? AND image_id = ?")
      .run(reference, imageId);
  }

  /** With its layers, references and leases. */
  deleteImage(id: string): void {
    this.#db.prepare("DELETE FROM images WHERE id = ?").run(id);
  }

  /** Bytes of a layer's tar; undefined if no image has it. */
  layerBytes(diffId: string): number | undefined {
    return this.#number("SELECT size AS n FROM image_layers WHERE diff_id = ? LIMIT 1", diffId);
  }

  /** Bytes of a `rootfs.erofs`; undefined if no image has it. */
  rootfsBytes(key: string): number | undefined {
    return this.#number("SELECT rootfs_bytes AS n FROM images WHERE rootfs_key = ? LIMIT 1", key);
  }

  /** Whether some image has this manifest or config. */
  usesBlob(digest: string): boolean {
    const sql = "SELECT 1 AS n FROM images WHERE id = ? OR config_digest = ? LIMIT 1";
    return this.#number(sql, digest, digest) !== undefined;
  }

  holders(imageId: string): string[] {
    const rows = this.#db
      .prepare("SELECT holder FROM leases WHERE image_id = ? ORDER BY holder")
      .all(imageId);
    return rows.map((row) => String(row.holder));
  }

  putLease(imageId: string, holder: string): void {
    this.#db.prepare("INSERT OR IGNORE INTO leases VALUES (?, ?)").run(imageId, holder);
  }

  deleteLeases(holder: string): void {
    this.#db.prepare("DELETE FROM leases WHERE holder = ?").run(holder);
  }

  #number(sql: string, ...values: string[]): number | undefined {
    const row = this.#db.prepare(sql).get(...values);
    return row === undefined ? undefined : Number(row.n);
  }

  #references(where: string, ...values: string[]): CatalogReference[] {
    const rows = this.#db.prepare(
      `SELECT reference, platform, image_id AS imageId, target FROM image_references ${where}`,
    );
    return rows.all(...values) as unknown as CatalogReference[];
  }

  #images(where: string, ...values: string[]): CatalogImage[] {
    const rows = this.#db.prepare(`SELECT * FROM images ${where}`).all(...values) as unknown as ImageRow[];
    const layers = this.#db.prepare(
      "SELECT diff_id AS diffId, size FROM image_layers WHERE image_id = ? ORDER BY position",
    );
    return rows.map((row) => ({
      id: row.id,
      platform: row.platform,
      config: JSON.parse(row.config) as ImageConfig,
      configDigest: row.config_digest,
      rootfsKey: row.rootfs_key,
      rootfsBytes: row.rootfs_bytes,
      layers: layers.all(row.id).map(({ diffId, size }) => ({ diffId: String(diffId), size: Number(size) })),
      builtAt: row.built_at ?? undefined,
      createdAt: row.created_at,
    }));
  }
}
