// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IMAGE_LIMITS } from "../limits.ts";
import { dir, entry, file, find, hardlink, merge, paths, symlink } from "../testing/entries.ts";
import { ImageTree } from "./tree.ts";

describe("whiteouts", () => {
  const cases: [string, Parameters<typeof merge>, string[]][] = [
    ["hide a file", [[file("a"), file("b")], [file(".wh.a")]], ["b"]],
    ["hide a directory and all in it", [[file("d/e/f"), file("b")], [file(".wh.d")]], ["b"]],
    ["hide a symlink, not its target", [[file("d/f"), symlink("s", "d")], [file(".wh.s")]], ["d", "d/f"]],
    ["hide one name of several", [[file("a"), hardlink("b", "a")], [file(".wh.a")]], ["b"]],
    ["may hide nothing", [[file("a")], [file(".wh.b"), file("no/.wh.c"), file("a/.wh.c")]], ["a"]],
    ["leave what is beside them", [[file("d/a"), file("d/b")], [file("d/.wh.a")]], ["d", "d/b"]],
    ["are found through a symlink", [[file("d/a"), symlink("s", "/d")], [file("s/.wh.a")]], ["d", "s"]],
    ["are found through ..", [[file("a")], [file("x/../../.wh.a")]], []],
    ["of any type count", [[file("a")], [dir(".wh.a")]], []],
    ["leave an own file that comes first", [[file("-a")], [file("-a"), file(".wh.-a")]], ["-a"]],
    ["leave an own file that comes later", [[file("a")], [file(".wh.a"), file("a")]], ["a"]],
    [
      "hide the lower half of an own directory that comes first",
      [[file("d/lower")], [file("d/own"), file(".wh.d")]],
      ["d", "d/own"],
    ],
    [
      "hide the lower half of an own directory that comes later",
      [[file("d/lower")], [file(".wh.d"), file("d/own")]],
      ["d", "d/own"],
    ],
    ["when opaque, hide all that is lower", [[file("d/a"), file("d/e/f")], [file("d/.wh..wh..opq")]], ["d"]],
    [
      "when opaque, leave own entries on both sides",
      [
        [file("d/a"), file("d/.bashrc"), file("d/e/f")],
        [file("d/.bashrc"), file("d/.wh..wh..opq"), file("d/e/g")],
      ],
      ["d", "d/.bashrc", "d/e", "d/e/g"],
    ],
    [
      "when opaque, reach into own directories",
      [[file("d/e/lower")], [file("d/e/own"), file("d/.wh..wh..opq")]],
      ["d", "d/e", "d/e/own"],
    ],
    [
      "when opaque at the root, hide all",
      [
        [file("a"), file("d/b")],
        [file("c"), file(".wh..wh..opq")],
      ],
      ["c"],
    ],
    [
      "of the driver AUFS are ignored",
      [[file("a")], [file(".wh..wh.aufs"), file(".wh..wh.plnk/1.2")]],
      ["a"],
    ],
    ["reach over several layers", [[file("a")], [file("b")], [file(".wh.a")], [file("c")]], ["b", "c"]],
    ["do not last", [[file("a")], [file(".wh.a")], [file("a")]], ["a"]],
  ];
  for (const [name, layers, expected] of cases) {
    test(name, () => assert.deepEqual(paths(merge(...layers)), expected));
  }

  test("of an own directory without entry take its lower metadata away, in either order", () => {
    const lower = [dir("d", { mode: 0o700, uid: 5 }), file("d/lower")];
    const marks = [file("d/own"), file(".wh.d")];
    for (const upper of [marks, marks.toReversed()]) {
      assert.partialDeepStrictEqual(find(merge(lower, upper), "d")?.metadata, { mode: 0o755, uid: 0 });
    }
  });

  test("leave the metadata that their own layer gives a directory", () => {
    const tree = merge([file("d/lower")], [dir("d", { mode: 0o711 }), file(".wh.d")]);
    assert.equal(find(tree, "d")?.metadata.mode, 0o711);
  });

  for (const path of [".wh.", "d/.wh.", ".wh..", "d/.wh...", ".wh.a/b", ".wh..wh..opq/b"]) {
    test(`are refused as ${path}`, () => {
      assert.throws(() => merge([file(path)]), { code: "IMAGE_CORRUPT", message: /whiteout/ });
    });
  }
});

test("whiteouts said over and over cost no more than once", () => {
  const tree = merge(Array.from({ length: 50_000 }, (_, n) => file(`d/own-${n}`)));
  const start = performance.now();
  for (let round = 0; round < 10_000; round += 1) {
    for (const path of ["d/.wh..wh..opq", ".wh.d", ".wh..wh..opq"]) tree.apply(file(path), 0);
  }
  assert.equal(paths(tree).length, 50_001);
  // Walking the directory each time takes a minute.
  assert.ok(performance.now() - start < 5000);
});

describe("a layer", () => {
  const kinds = ["file", "directory", "symlink", "character-device", "fifo"] as const;
  for (const from of kinds) {
    for (const to of kinds) {
      test(`changes a ${from} into a ${to}`, () => {
        const make = (kind: (typeof kinds)[number], mode: number) =>
          entry(kind, "x", { linkPath: "t", mode });
        const tree = merge(
          [make(from, 0o600), ...(from === "directory" ? [file("x/old")] : [])],
          [make(to, 0o640)],
        );
        assert.equal(find(tree, "x")?.kind, to);
        assert.equal(find(tree, "x")?.metadata.mode, 0o640);
        assert.deepEqual(paths(tree), from === "directory" && to === "directory" ? ["x", "x/old"] : ["x"]);
      });
    }
  }

  test("updates a directory and keeps what is in it", () => {
    const xattrs = new Map([["user.a", Buffer.from("1")]]);
    const tree = merge(
      [dir("d", { mode: 0o700, xattrs }), file("d/f")],
      [dir("d", { mode: 0o711, uid: 4, mtimeSec: 5 })],
    );
    assert.partialDeepStrictEqual(find(tree, "d")?.metadata, { mode: 0o711, uid: 4, mtimeSec: 5 });
    assert.equal(find(tree, "d")?.metadata.xattrs.size, 0);
    assert.deepEqual(paths(tree), ["d", "d/f"]);
  });

  test("describes the root", () => {
    for (const path of [".", "./", "/", "", "a/.."]) {
      assert.equal(merge([dir(path, { mode: 0o1777 })]).root.metadata.mode, 0o1777, path);
    }
  });

  test("cannot make the root anything but a directory", () => {
    for (const type of ["file", "symlink", "hardlink"] as const) {
      const root = entry(type, "./", { linkPath: "x" });
      assert.throws(() => merge([root]), {
        code: "IMAGE_CORRUPT",
        message: '"./": the root is not a directory',
      });
    }
  });

  test("has its missing parents made, with metadata that never differs", () => {
    const tree = merge([file("a/b/c")]);
    const expected = { mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 };
    for (const path of ["a", "a/b"]) assert.partialDeepStrictEqual(find(tree, path)?.metadata, expected);
  });

  test("may describe a directory after what is in it", () => {
    assert.equal(find(merge([file("d/f"), dir("d", { mode: 0o700 })]), "d")?.metadata.mode, 0o700);
  });

  test("has the last of two entries for a path", () => {
    const tree = merge([
      file("a", { mode: 0o600 }),
      file("a", { mode: 0o640 }),
      file("b"),
      dir("b"),
      dir("c"),
      file("c"),
    ]);
    assert.equal(find(tree, "a")?.metadata.mode, 0o640);
    assert.equal(find(tree, "b")?.kind, "directory");
    assert.equal(find(tree, "c")?.kind, "file");
  });

  test("puts a directory where a path needs one and a file was", () => {
    assert.deepEqual(paths(merge([file("a")], [file("a/b/c")])), ["a", "a/b", "a/b/c"]);
  });
});

describe("paths", () => {
  const cases: [string, Parameters<typeof merge>[0], string[]][] = [
    ["are taken from the root", [file("/a")], ["a"]],
    ["cannot leave the root", [file("../../a"), file("/../b/../../c")], ["a", "c"]],
    ["are cleaned", [file("./a//b/./c")], ["a", "a/b", "a/b/c"]],
    ["may end in a slash", [dir("a/")], ["a"]],
    ["follow relative symlinks", [dir("d"), symlink("s", "d"), file("s/f")], ["d", "d/f", "s"]],
    [
      "follow absolute symlinks within the root",
      [dir("d"), symlink("s", "/d"), file("s/f")],
      ["d", "d/f", "s"],
    ],
    [
      "follow symlinks that climb no further than the root",
      [symlink("s", "../../d"), file("s/f")],
      ["d", "d/f", "s"],
    ],
    [
      "follow chains of symlinks",
      [symlink("a", "b"), symlink("b", "c/d"), file("a/f")],
      ["a", "b", "c", "c/d", "c/d/f"],
    ],
    [
      ".. in a symlink's target means the parent of where it leads",
      [dir("x/y"), symlink("s", "x/y/../z"), file("s/f")],
      ["s", "x", "x/y", "x/z", "x/z/f"],
    ],
    [
      "follow symlinks from another directory",
      [dir("a/t"), symlink("a/s", "t"), file("a/s/f")],
      ["a", "a/s", "a/t", "a/t/f"],
    ],
    [
      "make what a dangling symlink names",
      [symlink("s", "not/there"), file("s/f")],
      ["not", "not/there", "not/there/f", "s"],
    ],
    ["do not follow a symlink in the last place", [dir("d"), symlink("s", "d"), file("s")], ["d", "s"]],
    [
      "with .. are cleaned as text, before any symlink is followed",
      [dir("d/e"), symlink("s", "d/e"), file("s/../f")],
      ["d", "d/e", "f", "s"],
    ],
  ];
  for (const [name, entries, expected] of cases) {
    test(name, () => assert.deepEqual(paths(merge(entries)), expected));
  }

  test("in a loop of symlinks are refused", () => {
    assert.throws(() => merge([symlink("a", "b"), symlink("b", "a"), file("a/f")]), {
      code: "IMAGE_CORRUPT",
      message: '"a/f": too many levels of symlinks in "a"',
    });
  });

  test("may follow 255 symlinks, not 256", () => {
    const chain = (length: number) => [
      ...Array.from({ length }, (_, n) => symlink(`s${n}`, n + 1 === length ? "end" : `s${n + 1}`)),
      file("s0/f"),
    ];
    assert.ok(paths(merge(chain(255))).includes("end/f"));
    assert.throws(() => merge(chain(256)), { code: "IMAGE_CORRUPT" });
  });

  test("cannot make the merge run for ever", () => {
    // 255 symlinks of 2047 components each, for every entry.
    const tree = new ImageTree({ ...IMAGE_LIMITS, maxPathSteps: 1_000_000 });
    const target = (n: number) => `${"./".repeat(2030)}s${n}`;
    for (let n = 0; n < 250; n += 1) tree.apply(symlink(`s${n}`, target(n + 1)), 0);
    assert.throws(() => [1, 2, 3].map((n) => tree.apply(file(`s0/${n}`), 0)), { code: "IMAGE_LIMIT" });
  });

  test("have names of 255 bytes at most", () => {
    assert.deepEqual(paths(merge([file("n".repeat(255))])), ["n".repeat(255)]);
    assert.throws(() => merge([file("n".repeat(256))]), { code: "IMAGE_LIMIT" });
    assert.throws(() => merge([file(`${"n".repeat(256)}/f`)]), { code: "IMAGE_LIMIT" });
  });

  test("cannot go deeper than the limit, not even through symlinks", () => {
    const steps = Array.from({ length: 30 }, (_, n) => [
      dir(`s${n}/${"d/".repeat(100)}`),
      symlink(`s${n + 1}`, `s${n}/${"d/".repeat(100)}`),
    ]);
    assert.throws(() => merge([dir("s0"), ...steps.flat()]), {
      code: "IMAGE_LIMIT",
      message: /2048 directories deep/,
    });
  });
});

describe("hard links", () => {
  test("share an inode, also with a lower layer's", () => {
    const tree = merge([file("a")], [hardlink("b", "a"), hardlink("c", "./b")]);
    assert.equal(find(tree, "b"), find(tree, "a"));
    assert.equal(find(tree, "c"), find(tree, "a"));
  });

  test("to a symlink link the symlink", () => {
    const tree = merge([file("f"), symlink("s", "f"), hardlink("l", "s")]);
    assert.equal(find(tree, "l"), find(tree, "s"));
  });

  test("follow symlinks in all but the last component, from the root", () => {
    const tree = merge([file("d/f"), symlink("s", "/d"), hardlink("l", "/s/../s/f")]);
    assert.equal(find(tree, "l"), find(tree, "d/f"));
  });

  test("replace what had the name", () => {
    const tree = merge([file("a"), file("d/x")], [hardlink("d", "a")]);
    assert.equal(find(tree, "d"), find(tree, "a"));
  });

  test("outlive the name they link to", () => {
    assert.equal(
      find(merge([file("a", { mode: 0o600 })], [hardlink("b", "a"), file(".wh.a")]), "b")?.metadata.mode,
      0o600,
    );
  });

  test("to themselves change nothing", () => {
    assert.deepEqual(paths(merge([file("a"), hardlink("a", "a")])), ["a"]);
  });

  test("to what a later entry replaces keep the old file", () => {
    const tree = merge([file("a", { mode: 0o600 }), hardlink("b", "a"), file("a", { mode: 0o640 })]);
    assert.equal(find(tree, "b")?.metadata.mode, 0o600);
  });

  const bad: [string, Parameters<typeof merge>][] = [
    ["nothing", [[hardlink("b", "a")]]],
    ["what comes later", [[hardlink("b", "a"), file("a")]]],
    ["what a whiteout has hidden", [[file("a")], [file(".wh.a"), hardlink("b", "a")]]],
    ["a directory", [[dir("a"), hardlink("b", "a")]]],
    ["the root", [[hardlink("b", "..")]]],
    ["something under a file", [[file("a"), hardlink("b", "a/c")]]],
  ];
  for (const [name, layers] of bad) {
    test(`to ${name} are refused`, () => {
      assert.throws(() => merge(...layers), { code: "IMAGE_CORRUPT", message: /^"b": hard link to / });
    });
  }
});
