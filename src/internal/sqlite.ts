// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import type { DatabaseSync } from "node:sqlite";
import { MicrovmError } from "../errors.ts";

/** One step of a schema: SQL that leads from the version before it to its own. */
export type Migration = string;

/**
 * Opens a SQLite database that several processes share: WAL, foreign keys, five seconds of patience, and the
 * schema brought up to date.
 *
 * @param migrations every step since the first version, in order; the schema's version is their number
 * @throws MicrovmError `STATE_CORRUPT` if it is no database, or of a newer release.
 */
export function openDatabase(path: string, migrations: readonly Migration[]): DatabaseSync {
  const { DatabaseSync } = loadSqlite();
  let db: DatabaseSync | undefined;
  try {
    closeSync(openSync(path, "a", 0o600)); // SQLite gives its other files the mode of this one
    db = new DatabaseSync(path);
    db.exec("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL");
    if (schemaVersion(db) !== migrations.length) migrate(db, path, migrations);
    return db;
  } catch (error) {
    db?.close();
    if (error instanceof MicrovmError) throw error;
    throw new MicrovmError("STATE_CORRUPT", `${path}: ${error instanceof Error ? error.message : error}`, {
      stage: "state",
      hint: `If the file is damaged, move ${path} away; what it listed is then forgotten.`,
      cause: error,
    });
  }
}

/** Runs `body` in a write transaction that no other process's can overlap. */
export function transaction<T>(db: DatabaseSync, body: () => T): T {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = body();
    db.exec("COMMIT");
    return result;
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

function schemaVersion(db: DatabaseSync): number {
  return Number(db.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
}

function migrate(db: DatabaseSync, path: string, migrations: readonly Migration[]): void {
  db.exec("PRAGMA journal_mode = WAL");
  transaction(db, () => {
    const version = schemaVersion(db);
    if (version > migrations.length) {
      throw new MicrovmError("STATE_CORRUPT", `${path}: written by a newer release (schema ${version})`, {
        stage: "state",
        hint: "Update ts-microvm, or point MICROVM_DATA_DIR and MICROVM_CACHE_DIR elsewhere.",
      });
    }
    for (const step of migrations.slice(version)) db.exec(step);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
  });
}

/** Node 22 announces once per process that node:sqlite is experimental; a library must not print that. */
function loadSqlite(): typeof import("node:sqlite") {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => {};
  try {
    return createRequire(import.meta.url)("node:sqlite") as typeof import("node:sqlite");
  } finally {
    process.emitWarning = emitWarning;
  }
}
