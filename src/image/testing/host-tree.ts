// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import type { ByteString } from "../tar/entry.ts";
import type { SeenFile } from "./erofs-reader.ts";

/** A file on the host; links are told by equal `nid`s. */
export type HostFile = SeenFile;

// Python, since Node shows neither extended attributes nor, as a string, names that are not UTF-8.
const LIST = `
import os, stat, sys, json, hashlib, base64
TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "character-device",
         stat.S_IFBLK: "block-device", stat.S_IFIFO: "fifo"}
top = os.fsencode(sys.argv[1])
def text(value): return value.decode("latin1")
def describe(path):
    s = os.lstat(path)
    kind = TYPES[stat.S_IFMT(s.st_mode)]
    sha256 = ""
    if kind == "file":
        with open(path, "rb") as f: sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    device = "%d:%d" % (os.major(s.st_rdev), os.minor(s.st_rdev)) if kind.endswith("device") else ""
    xattrs = {text(os.fsencode(n)): text(os.getxattr(path, n, follow_symlinks=False))
              for n in os.listxattr(path, follow_symlinks=False)}
    print(json.dumps({"path": text(path[len(top):]) or "/", "nid": s.st_ino, "type": kind,
      "mode": stat.S_IMODE(s.st_mode), "uid": s.st_uid, "gid": s.st_gid,
      "size": 0 if kind == "directory" else s.st_size, "mtimeSec": s.st_mtime_ns // 10**9,
      "mtimeNsec": s.st_mtime_ns % 10**9, "links": s.st_nlink, "device": device,
      "target": text(os.readlink(path)) if kind == "symlink" else "", "xattrs": xattrs, "sha256": sha256}))
describe(top)
for folder, directories, files in os.walk(top):
    for name in directories + files: describe(os.path.join(folder, name))
`;

/** Every file under a folder of the host, by its path from there, `/` the folder itself. */
export function readHostTree(directory: string): Map<ByteString, HostFile> {
  const output = execFileSync("python3", ["-c", LIST, directory], { encoding: "utf8", maxBuffer: 1 << 28 });
  const files = output
    .trimEnd()
    .split("\n")
    .map(
      (line) =>
        JSON.parse(line) as Omit<HostFile, "xattrs"> & { path: string; xattrs: Record<string, string> },
    );
  return new Map(
    files.map(({ path, xattrs, ...file }) => [path, { ...file, xattrs: new Map(Object.entries(xattrs)) }]),
  );
}
