// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import type { OutputLog, OutputStream } from "./output-log.ts";

/** Where output goes besides the log. Both are ended when the workload's output ends. */
export interface OutputSink {
  readonly stdout?: Writable | undefined;
  readonly stderr?: Writable | undefined;
}

/** Output of the workload: every piece goes to the log and to each sink, at the pace of the slowest of them. */
export class Output {
  readonly #log: OutputLog;
  readonly #sinks = new Set<OutputSink>();
  readonly #ended = new Set<OutputStream>();

  constructor(log: OutputLog) {
    this.#log = log;
  }

  /** From now on output goes to `sink` too, until the returned function is called or the sink breaks. */
  attach(sink: OutputSink): () => void {
    this.#sinks.add(sink);
    for (const stream of this.#ended) sink[stream]?.end();
    return () => this.#sinks.delete(sink);
  }

  /** Copies one stream of the workload to its end. */
  async pump(stream: OutputStream, source: Readable): Promise<void> {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        const writes = [this.#log.append(stream, chunk)];
        for (const sink of this.#sinks) {
          const target = sink[stream];
          if (target) writes.push(deliver(target, chunk));
        }
        await Promise.all(writes);
      }
    } finally {
      this.#ended.add(stream);
      for (const sink of this.#sinks) sink[stream]?.end();
    }
  }
}

/** Writes with back-pressure. A reader that has gone away is no failure of the workload's. */
async function deliver(target: Writable, chunk: Buffer): Promise<void> {
  if (!target.writable || target.write(chunk)) return;
  const settled = new AbortController();
  try {
    await Promise.race([
      once(target, "drain", { signal: settled.signal }),
      once(target, "close", { signal: settled.signal }),
    ]);
  } catch {
    // The sink broke: an `error` event. Its owner sees it; the output goes on without it.
  } finally {
    settled.abort();
  }
}
