// SPDX-License-Identifier: Apache-2.0
// Pulls in a process of its own, for tests that kill it or race two of it: DIR REFERENCE.
import { ImageStore } from "../store.ts";
import { IMPATIENT } from "./store-fixture.ts";

const [dir = "", reference = ""] = process.argv.slice(2);
const image = await new ImageStore({ dir, dockerConfig: "/nonexistent", tuning: IMPATIENT }).pull(reference, {
  onEvent: ({ type }) => void process.stderr.write(`${type}\n`),
});
process.stdout.write(`${image.id}\n`);
