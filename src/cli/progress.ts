// SPDX-License-Identifier: Apache-2.0
import type { RunEvent } from "../events.ts";
import type { PullEvent } from "../image/index.ts";
import { printable } from "../internal/printable.ts";
import { formatBytes } from "../internal/units.ts";

const REDRAW_MS = 80;
const BAR_WIDTH = 30;

type LayerEvent = Extract<PullEvent, { type: "layer" }>;

/** Draws what `run` and `pull` report: bars on a terminal, a line for each step elsewhere, nothing when nothing is pulled. */
export function showProgress(options: { readonly quiet: boolean }): {
  onEvent(event: RunEvent): void;
  /** Wipes what must not stay; safe to call twice. */
  end(): void;
} {
  if (options.quiet) return { onEvent() {}, end() {} };
  const screen = process.stderr.isTTY ? bars() : lines();
  return {
    onEvent(event) {
      if (event.type === "pull") screen.pull(event.event);
      else if (
        event.type === "runtime" &&
        event.event.type === "fetching" &&
        event.event.receivedBytes === 0
      ) {
        screen.note(`Fetching ${event.event.library} (once)`);
      } else if (event.type === "backend" && event.warning) screen.note(`microvm: ${event.warning}`);
    },
    end: () => screen.end(),
  };
}

interface Screen {
  note(text: string): void;
  pull(event: PullEvent): void;
  end(): void;
}

function lines(): Screen {
  const note = (text: string) => void process.stderr.write(`${printable(text)}\n`);
  let reference = "";
  return {
    note,
    pull(event) {
      if (event.type === "resolving") reference = event.reference;
      if (event.type === "resolved") note(`Pulling ${event.reference}: ${event.layers.length} layers`);
      if (event.type === "layer" && event.status === "retrying")
        note(`${short(event.digest)}: ${event.reason ?? "retrying"}`);
      if (event.type === "layer" && event.status === "verified")
        note(`${short(event.digest)}: ${formatBytes(event.total)}`);
      if (event.type === "done" && !event.fromStore) note(`Pulled ${reference} ${event.digest}`);
    },
    end() {},
  };
}

function bars(): Screen {
  const layers = new Map<string, LayerEvent>();
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;
  const clear = () => {
    if (drawn > 0) process.stderr.write(`\x1b[${drawn}A\x1b[J`);
    drawn = 0;
  };
  const draw = () => {
    clear();
    const rows = Math.max(1, (process.stderr.rows ?? 24) - 2);
    const active = [...layers.values()].slice(-rows);
    process.stderr.write(active.map((layer) => `${bar(layer)}\n`).join(""));
    drawn = active.length;
  };
  return {
    note(text) {
      clear();
      process.stderr.write(`${printable(text)}\n`);
    },
    pull(event) {
      if (event.type === "resolved") {
        for (const { digest, size } of event.layers) {
          layers.set(digest, { type: "layer", digest, status: "downloading", bytes: 0, total: size });
        }
      }
      if (event.type === "layer") layers.set(event.digest, event);
      if (event.type === "layer" || event.type === "resolved") {
        timer ??= setTimeout(() => {
          timer = undefined;
          draw();
        }, REDRAW_MS);
      }
      if (event.type === "done") this.end();
    },
    end() {
      clearTimeout(timer);
      timer = undefined;
      clear();
    },
  };
}

function bar({ digest, status, bytes, total }: LayerEvent): string {
  if (status === "exists") return `${short(digest)}  already here`;
  if (status === "verified") return `${short(digest)}  done  ${formatBytes(total)}`;
  const filled = total > 0 ? Math.min(BAR_WIDTH, Math.floor((bytes / total) * BAR_WIDTH)) : 0;
  const text = `${formatBytes(bytes)} / ${formatBytes(total)}${status === "retrying" ? "  retrying" : ""}`;
  return `${short(digest)}  [${"=".repeat(filled)}${" ".repeat(BAR_WIDTH - filled)}]  ${text}`;
}

const short = (digest: string): string => digest.replace(/^sha256:/, "").slice(0, 12);
