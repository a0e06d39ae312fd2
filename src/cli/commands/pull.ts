// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { showProgress } from "../progress.ts";
import { forwardSignals } from "../signals.ts";

export function pull(program: Command): void {
  program
    .command("pull")
    .description("Pull an image and make it bootable")
    .argument("<image>", "image reference")
    .option("--platform <platform>", "such as linux/amd64; default this machine's")
    .option("-q, --quiet", "print the digest only")
    .action(async (image: string, flags: { platform?: string; quiet?: boolean }) => {
      const signals = forwardSignals();
      const { openHost } = await import("../../host.ts");
      const progress = showProgress({ quiet: flags.quiet ?? false });
      try {
        const { id } = await openHost().images.pull(image, {
          platform: flags.platform,
          policy: "always",
          signal: signals.cancelled,
          onEvent: (event) => progress.onEvent({ type: "pull", event }),
        });
        progress.end();
        process.stdout.write(`${id}\n`);
      } finally {
        progress.end();
      }
    });
}
