// SPDX-License-Identifier: Apache-2.0
//
// Writes docs/OPTIONS.md from the schemas and the flags. A test fails when the file is not what this writes.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { RUN_FLAGS } from "../src/cli/run-flags.ts";
import { execOptionsSchema } from "../src/exec.ts";
import { runOptionsSchema } from "../src/options.ts";

const FILE = fileURLToPath(new URL("../docs/OPTIONS.md", import.meta.url));

/** The text of docs/OPTIONS.md. */
export function optionsDocument(): string {
  return `# Options

Written by \`node scripts/options-doc.ts\` from the schemas in src/options.ts and src/exec.ts and the flags in
src/cli/run-flags.ts; do not edit. An option that is not in these tables is an error, not ignored.

## \`run(image, options)\` and \`microvm run\`

${table(runOptionsSchema.shape, (name) => RUN_FLAGS.find(({ option }) => option === name)?.flags)}

\`command\` is what follows the image on the command line. \`--env-file FILE\` reads \`NAME=VALUE\` lines into \`env\`;
\`-q, --quiet\` shows neither progress nor warnings.

## \`vm.exec(file, args, options)\`

${table(execOptionsSchema.shape)}
`;
}

function table(
  shape: Readonly<Record<string, z.ZodType>>,
  flagOf?: (name: string) => string | undefined,
): string {
  const rows = Object.entries(shape).map(([name, schema]) => {
    const cells = [`\`${name}\``, typeOf(schema), defaultOf(schema), schema.description ?? ""];
    if (flagOf) cells.splice(1, 0, flagOf(name) ? `\`${flagOf(name)}\`` : "");
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  });
  const headings = flagOf
    ? ["Option", "Flag", "Type", "Default", "Meaning"]
    : ["Option", "Type", "Default", "Meaning"];
  return [`| ${headings.join(" | ")} |`, `|${" --- |".repeat(headings.length)}`, ...rows].join("\n");
}

interface JsonSchema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: unknown;
}

const jsonSchema = (schema: z.ZodType): JsonSchema =>
  z.toJSONSchema(schema, { unrepresentable: "any", io: "input" }) as JsonSchema;

const typeOf = (schema: z.ZodType): string => text(jsonSchema(schema));

function text(schema: JsonSchema): string {
  if (schema.anyOf) return schema.anyOf.map(text).join(" or ");
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(", ");
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.type === "array") return `list of ${schema.items ? text(schema.items) : "values"}`;
  if (schema.type === "object") {
    if (schema.properties) return `{ ${Object.keys(schema.properties).join(", ")} }`;
    return "object of names and strings";
  }
  if (schema.type === "integer") {
    const bounded = schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER;
    return bounded
      ? `whole number, ${schema.minimum} to ${schema.maximum}`
      : `whole number, from ${schema.minimum}`;
  }
  return schema.type ?? "object";
}

function defaultOf(schema: z.ZodType): string {
  const value = jsonSchema(schema).default;
  return value === undefined ? "" : `\`${JSON.stringify(value)}\``;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(FILE, optionsDocument());
