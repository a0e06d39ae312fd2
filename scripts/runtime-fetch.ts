// SPDX-License-Identifier: Apache-2.0
//
// Finds or fetches everything a VMM needs, and says what it found: `npm run runtime:fetch`. With `--libkrun` the libkrun
// backend's library too.
import { userDirs } from "../src/internal/dirs.ts";
import { locateRuntime, type RuntimeEvent } from "../src/runtime/index.ts";

let lastPercent = -1;

function report(event: RuntimeEvent): void {
  switch (event.type) {
    case "found":
      console.log(`${event.library}: ${event.source} copy ${event.path}`);
      break;
    case "rejected":
      console.log(`rejected ${event.path}: ${event.reason}`);
      break;
    case "fetching": {
      const percent = Math.floor((event.receivedBytes / event.totalBytes) * 10) * 10;
      if (percent !== lastPercent)
        console.log(`${event.library}: ${event.package}@${event.version} ${percent} %`);
      lastPercent = percent;
      break;
    }
    case "fetched":
      console.log(`${event.library}: kept as ${event.path}`);
      break;
    case "kernel":
      console.log(`kernel: made ${event.path}`);
      break;
  }
}

const runtime = await locateRuntime({
  cacheDir: userDirs().cache,
  libkrun: process.argv.includes("--libkrun"),
  onEvent: report,
});
console.log(JSON.stringify(runtime, undefined, 2));
