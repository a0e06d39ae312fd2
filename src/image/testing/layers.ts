// SPDX-License-Identifier: Apache-2.0
import { type SparseFile, sparseMember } from "./sparse.ts";
import { gnuLong, type Member, member, paxHeader, tar } from "./tar-writer.ts";

const END = Buffer.alloc(1024);

const file = (path: string, data = path, extra: Partial<Member> = {}): Buffer =>
  member({ path, data, mode: 0o644, mtime: 1_600_000_001, ...extra });
const dir = (path: string, extra: Partial<Member> = {}): Buffer =>
  member({ type: "5", path: `${path}/`, mode: 0o755, mtime: 1_600_000_002, ...extra });
const symlink = (path: string, linkPath: string, extra: Partial<Member> = {}): Buffer =>
  member({ type: "2", path, linkPath, mode: 0o777, mtime: 1_600_000_003, ...extra });
const hardlink = (path: string, linkPath: string): Buffer => member({ type: "1", path, linkPath });
const whiteout = (path: string): Buffer => member({ path });

/** Contents whose every 512 bytes differ, so that a block out of place shows. */
export function pattern(length: number, seed = 1): Buffer {
  const data = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    data[at] = state >>> 24;
  }
  return data;
}

/** Sparse files whose pieces fall on block boundaries of the tar, and such whose do not. */
export const SPARSE_FILES: readonly SparseFile[] = [
  {
    path: "sparse/aligned",
    size: 1 << 20,
    pieces: [0, 65_536, 524_288].map((offset) => piece(offset, 4096)),
  },
  {
    path: "sparse/unaligned",
    size: 300_001,
    pieces: [piece(100, 700), piece(5000, 1), piece(99_999, 4097), piece(300_000, 1)],
  },
  {
    path: "sparse/many",
    size: 1 << 19,
    pieces: Array.from({ length: 60 }, (_, n) => piece(n * 8192 + 512, 1024)),
  },
  { path: "sparse/hole", size: 5_000_000, pieces: [] },
  { path: "sparse/tail", size: 70_000, pieces: [piece(65_536, 4464)] },
];

function piece(offset: number, length: number) {
  return { offset, data: pattern(length, offset + 7) };
}

function longName(character: string): string {
  return character.repeat(255);
}

/** Every type of file and every way to say its name. */
function base(): Buffer {
  const deep = Array.from({ length: 40 }, (_, level) => `level${level}`);
  return Buffer.concat([
    dir(".", { mode: 0o755, mtime: 1_500_000_000 }),
    dir("usr"),
    dir("usr/lib"),
    file("usr/lib/libc.so", pattern(5000).toString("latin1"), { mode: 0o755 }),
    symlink("lib", "usr/lib"),
    symlink("abs", "/usr/lib"),
    symlink("escape", "../../../../usr"),
    symlink("dangling", "not/there"),
    symlink("loop-a", "loop-b"),
    symlink("loop-b", "loop-a"),
    symlink("long-link", `${"t".repeat(200)}/${"u".repeat(250)}`, longTarget(451)),

    dir("types"),
    file("types/empty", ""),
    ...[511, 512, 513, 4096, 70_000].map((size) => file(`types/size-${size}`, latin1(pattern(size, size)))),
    file("types/setuid", "s", { mode: 0o4755 }),
    file("types/setgid", "s", { mode: 0o2755 }),
    dir("types/sticky", { mode: 0o1777 }),
    file("types/no-permissions", "n", { mode: 0 }),
    member({ type: "3", path: "types/null", mode: 0o666, devMajor: 1, devMinor: 3 }),
    member({ type: "3", path: "types/big-minor", mode: 0o600, devMajor: 511, devMinor: 74_565 }),
    member({ type: "4", path: "types/sda", mode: 0o660, gid: 6, devMajor: 8, devMinor: 0 }),
    member({ type: "6", path: "types/fifo", mode: 0o640 }),
    member({
      path: "types/old-file",
      format: "v7",
      data: "v7",
      mode: 0o600,
      tweak: (h) => h.writeUInt8(0, 156),
    }),
    member({ path: "types/old-dir/", format: "v7", mode: 0o700, tweak: (h) => h.writeUInt8(0, 156) }),

    dir("owner"),
    file("owner/big-id", "b", { uid: 100_000, gid: 4_000_000_000 }),
    file("owner/base256", "b", { uid: 7, gid: 8, base256: true, format: "gnu" }),
    file("owner/pax", "p", { pax: [["uid", "3000000000"], ["gid", "65537"]] }), // biome-ignore format: one pair a record

    dir("time"),
    file("time/nanoseconds", "t", { pax: [["mtime", "1600000000.123456789"]] }),
    file("time/before-1970", "t", { pax: [["mtime", "-5.25"]] }),
    file("time/before-1970-gnu", "t", { mtime: -86_400, format: "gnu" }),
    file("time/after-2038", "t", { mtime: 5_000_000_000 }),

    dir("xattr", { xattrs: { "user.on-directory": "yes" } }),
    file("xattr/user", "x", { xattrs: { "user.a": "1", "user.binary": "\0\xff\n=" } }),
    file("xattr/capability", "x", {
      xattrs: { "security.capability": "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
    }),
    file("xattr/trusted", "x", { xattrs: { "trusted.t": "t" } }),
    file("xattr/large", "x", { xattrs: { "user.large": "v".repeat(3000) } }),
    dir("xattr/dir-with-much", { xattrs: { "user.large": "v".repeat(1500) } }),
    file("xattr/dir-with-much/inside", "i"),

    dir("names"),
    ...["!", "#z", "+y", "-x", ",", "..x", "...", ".bashrc", ".w", "~", " ", "a b", "new\nline"].map((name) =>
      file(`names/${name}`, name),
    ),
    file("names/utf8-\xc3\xa9\xe2\x82\xac", "u"),
    file("names/not-utf8-\xff\xfe\x80", "n"),
    file(`names/${longName("p")}`, "pax", { pax: [["path", `names/${longName("p")}`]] }),
    gnuLong("L", `names/${longName("g")}`),
    file(`names/${longName("g")}`.slice(0, 100), "gnu", { format: "gnu" }),
    dir("names/prefix"),
    member({ path: longName("u").slice(0, 90), prefix: "names/prefix", data: "prefix", mode: 0o644 }),
    ...deep.map((_, level) => longDir(`names/${deep.slice(0, level + 1).join("/")}`)),

    dir("links"),
    file("links/first", "linked", { mode: 0o640 }),
    hardlink("links/second", "links/first"),
    hardlink("links/third", "./links/second"),
    symlink("links/symlink", "first"),
    hardlink("links/symlink-too", "links/symlink"),
    hardlink("links/absolute", "/links/first"),

    dir("many"),
    ...Array.from({ length: 300 }, (_, n) => file(`many/${String(n).padStart(n % 60, "0")}`, String(n))),

    dir("sparse"),
    ...SPARSE_FILES.flatMap((sparse) =>
      (["0.0", "0.1", "1.0"] as const).map((format) =>
        sparseMember({ ...sparse, path: `${sparse.path}-${format}` }, format, { mode: 0o644 }),
      ),
    ),
    ...lowerOfUpper(),
    END,
  ]);
}

/** What `upper` changes. */
function lowerOfUpper(): Buffer[] {
  const kinds: [string, (path: string) => Buffer][] = [
    ["file", (path) => file(path, "old")],
    ["dir", (path) => Buffer.concat([dir(path), file(`${path}/child`, "old")])],
    ["symlink", (path) => symlink(path, "types/empty")],
  ];
  return [
    dir("change"),
    ...kinds.flatMap(([from, make]) =>
      ["file", "dir", "symlink", "fifo"].map((to) => make(`change/${from}-${to}`)),
    ),
    dir("gone"),
    file("gone/file"),
    dir("gone/dir"),
    file("gone/dir/child"),
    file("gone/-dashed"),
    symlink("gone/link", "file"),
    dir("opaque", { mode: 0o700 }),
    file("opaque/lower"),
    file("opaque/.hidden-lower"),
    dir("opaque/sub"),
    file("opaque/sub/lower"),
    dir("kept"),
    file("kept/a", "lower a"),
    file("kept/b", "lower b"),
  ];
}

/** One of each change that a layer can make to the one below it. */
function upper(): Buffer {
  const kinds: Record<string, (path: string) => Buffer> = {
    file: (path) => file(path, "new", { mode: 0o600, uid: 5 }),
    dir: (path) => Buffer.concat([dir(path, { mode: 0o750, uid: 5 }), file(`${path}/new-child`, "new")]),
    symlink: (path) => symlink(path, "elsewhere", { uid: 5 }),
    fifo: (path) => member({ type: "6", path, mode: 0o622, uid: 5 }),
  };
  return Buffer.concat([
    ...["file", "dir", "symlink"].flatMap((from) =>
      Object.entries(kinds).map(([to, make]) => make(`change/${from}-${to}`)),
    ),
    whiteout("gone/.wh.file"),
    whiteout("gone/.wh.dir"),
    // Sorts before its own whiteout, which must not hide it.
    file("gone/-dashed", "own"),
    whiteout("gone/.wh.-dashed"),
    whiteout("gone/.wh.link"),
    whiteout("gone/.wh.never-was"),
    whiteout("nowhere/.wh.file"),

    // Own entries on both sides of an opaque whiteout.
    dir("opaque", { mode: 0o711 }),
    file("opaque/.bashrc", "own, before"),
    whiteout("opaque/.wh..wh..opq"),
    dir("opaque/sub"),
    file("opaque/sub/own", "own, after"),
    file("opaque/+own", "own, after"),

    // Through a symlink to a directory of the lower layer.
    file("lib/through-relative", "r"),
    file("abs/through-absolute", "a"),
    file("escape/through-clamped", "c"),
    file("dangling/made", "d"),
    hardlink("links/through-symlink", "lib/libc.so"),
    whiteout("lib/.wh.through-never"),

    hardlink("links/cross-layer", "links/first"),
    dir("kept", { mode: 0o500, uid: 12, gid: 34, xattrs: { "user.new": "metadata" } }),
    file("kept/a", "upper a", { mode: 0o400 }),

    file("/absolute/path", "p"),
    file("../../clamped", "c"),
    file("./a/./b//../c", "cleaned"),
    file("duplicate", "first"),
    file("duplicate", "second", { mode: 0o700 }),
    file("duplicate-kind", "file"),
    dir("duplicate-kind"),
    END,
  ]);
}

/** Changes to what the first two layers did together. */
function top(): Buffer {
  return Buffer.concat([
    dir(".", { mode: 0o755, mtime: 1_650_000_000, uid: 1 }),
    // One name of an inode with several.
    whiteout("links/.wh.first"),
    whiteout("lib/.wh.through-relative"),
    whiteout("change/.wh..wh..opq"),
    file("change/only-this", "o"),
    dir("gone"),
    file("gone/dir", "a file again"),
    whiteout("opaque/.wh.sub"),
    file("usr/lib/libc.so", "replaced"),
    END,
  ]);
}

/** What is legal, and what `umoci unpack` refuses or reads otherwise (docs/IMAGES.md, "Differences from umoci"). */
export function layerBeyondUmoci(): Buffer {
  return Buffer.concat([
    paxHeader(
      [
        ["path", "not/this"],
        ["mtime", "1"],
      ],
      "g",
    ),
    dir("beyond"),
    ...SPARSE_FILES.map((sparse) => sparseMember({ ...sparse, path: `${sparse.path}-old` }, "old")),
    file("types/empty/now-a-directory", "inside"),
    file("beyond/contiguous", "c", { type: "7" }),
    file("beyond/libarchive", "x", { pax: [["LIBARCHIVE.xattr.user.percent%25", "dmFsdWU"]] }),
    file("beyond/empty-xattr", "x", { xattrs: { "user.empty": "" } }),
    hardlink("beyond/contiguous", "beyond/contiguous"),
    file(".wh..wh.aufs", "", { mode: 0o444 }),
    dir(".wh..wh.plnk"),
    file(".wh..wh.plnk/1.2", "aufs"),
    END,
  ]);
}

/** Paths of directories that no entry describes: `umoci` gives them the time of day. */
export const IMPLICIT_DIRECTORIES = ["/not", "/not/there", "/absolute", "/a"];

/**
 * A stack of layers, the lowest first, with every format, file type and change that this project knows of and
 * `umoci unpack` agrees on. The last layer is empty.
 */
export function layerStack(): Buffer[] {
  return [base(), upper(), top(), tar([])];
}

function latin1(data: Buffer): string {
  return data.toString("latin1");
}

function longTarget(length: number): Partial<Member> {
  return { pax: [["linkpath", `${"t".repeat(200)}/${"u".repeat(length - 201)}`]] };
}

function longDir(path: string): Buffer {
  return dir(path, { pax: [["path", `${path}/`]] });
}
