// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { isErrno, MicrovmError } from "../errors.ts";
import { privateDir } from "../internal/dirs.ts";
import { openDatabase } from "../internal/sqlite.ts";

/** What is known of a VM without asking it. Whether it lives is never stored: its api.sock tells. */
export interface VmRecord {
  readonly id: string;
  readonly name: string;
  /** Disk, logs; gone with the VM. */
  readonly dir: string;
  /** Answers while the machine lives. */
  readonly socketPath: string;
  readonly imageReference: string;
  readonly imageId: string;
  /** The workload's argv, for people. */
  readonly command: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Removed by itself when it ends; if its owner was killed, by the next process that looks. */
  readonly autoRemove: boolean;
  readonly createdAt: number;
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
  readonly exitCode: number | undefined;
  /** Why there is no exit code. */
  readonly error: string | undefined;
  /** Everything else worth showing: options, backend, sizes. */
  readonly details: Readonly<Record<string, unknown>>;
}

export type NewVm = Omit<VmRecord, "startedAt" | "finishedAt" | "exitCode" | "error">;

const MIGRATIONS = [
  `CREATE TABLE vms (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     dir TEXT NOT NULL,
     socket_path TEXT NOT NULL,
     image_reference TEXT NOT NULL,
     image_id TEXT NOT NULL,
     command TEXT NOT NULL,
     labels TEXT NOT NULL,
     auto_remove INTEGER NOT NULL,
     created_at INTEGER NOT NULL,
     started_at INTEGER,
     finished_at INTEGER,
     exit_code INTEGER,
     error TEXT,
     details TEXT NOT NULL
   ) STRICT`,
];

type Row = Record<string, unknown>;

/** The VMs of this user, shared by every process through one SQLite file. */
export class VmRegistry implements Disposable {
  readonly #db: DatabaseSync;

  constructor(dataDir: string) {
    this.#db = openDatabase(join(privateDir(dataDir), "state.db"), MIGRATIONS);
  }

  /** @throws MicrovmError `NAME_IN_USE`. */
  insert(vm: NewVm): void {
    try {
      this.#db
        .prepare(
          `INSERT INTO vms (id, name, dir, socket_path, image_reference, image_id, command, labels, auto_remove, created_at, details)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          vm.id,
          vm.name,
          vm.dir,
          vm.socketPath,
          vm.imageReference,
          vm.imageId,
          JSON.stringify(vm.command),
          JSON.stringify(vm.labels),
          vm.autoRemove ? 1 : 0,
          vm.createdAt,
          JSON.stringify(vm.details),
        );
    } catch (error) {
      if (!isErrno(error, "ERR_SQLITE_ERROR") || !String(error).includes("vms.name")) throw error;
      throw new MicrovmError("NAME_IN_USE", `the name ${vm.name} belongs to another VM`, {
        stage: "state",
        hint: `Choose another name, or remove that VM: microvm rm -f ${vm.name}`,
        cause: error,
      });
    }
  }

  started(id: string, at: number, details: VmRecord["details"]): void {
    this.#db
      .prepare("UPDATE vms SET started_at = ?, details = ? WHERE id = ?")
      .run(at, JSON.stringify(details), id);
  }

  finished(id: string, end: { at: number; exitCode?: number | undefined; error?: string | undefined }): void {
    this.#db
      .prepare(
        "UPDATE vms SET finished_at = ?, exit_code = ?, error = ? WHERE id = ? AND finished_at IS NULL",
      )
      .run(end.at, end.exitCode ?? null, end.error ?? null, id);
  }

  delete(id: string): void {
    this.#db.prepare("DELETE FROM vms WHERE id = ?").run(id);
  }

  list(): VmRecord[] {
    return this.#db.prepare("SELECT * FROM vms ORDER BY created_at DESC, id").all().map(toRecord);
  }

  /**
   * The VM of that name, id, or unambiguous start of an id.
   *
   * @throws MicrovmError `VM_NOT_FOUND`.
   */
  find(nameOrId: string): VmRecord {
    const exact = this.#db.prepare("SELECT * FROM vms WHERE name = ? OR id = ?").get(nameOrId, nameOrId);
    if (exact) return toRecord(exact);
    const byPrefix = /^[0-9a-f]+$/.test(nameOrId)
      ? this.#db.prepare("SELECT * FROM vms WHERE id >= ? AND id < ? LIMIT 2").all(nameOrId, `${nameOrId}g`)
      : [];
    const [only] = byPrefix;
    if (only && byPrefix.length === 1) return toRecord(only);
    throw new MicrovmError("VM_NOT_FOUND", `${only ? "several VMs match" : "no VM"} ${nameOrId}`, {
      stage: "state",
      hint: "microvm ps -a lists all VMs.",
    });
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

function toRecord(row: Row): VmRecord {
  const number = (value: unknown) => (typeof value === "number" ? value : undefined);
  return {
    id: String(row["id"]),
    name: String(row["name"]),
    dir: String(row["dir"]),
    socketPath: String(row["socket_path"]),
    imageReference: String(row["image_reference"]),
    imageId: String(row["image_id"]),
    command: JSON.parse(String(row["command"])) as string[],
    labels: JSON.parse(String(row["labels"])) as Record<string, string>,
    autoRemove: row["auto_remove"] === 1,
    createdAt: Number(row["created_at"]),
    startedAt: number(row["started_at"]),
    finishedAt: number(row["finished_at"]),
    exitCode: number(row["exit_code"]),
    error: typeof row["error"] === "string" ? row["error"] : undefined,
    details: JSON.parse(String(row["details"])) as Record<string, unknown>,
  };
}
