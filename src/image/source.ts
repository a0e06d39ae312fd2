// SPDX-License-Identifier: Apache-2.0
import type { Descriptor } from "./manifest/schema.ts";

/** A manifest or index as it is stored somewhere, its digest verified. */
export interface SourceDocument {
  readonly bytes: Buffer;
  readonly digest: string;
  /** What the source says it is. */
  readonly mediaType: string | undefined;
}

/** Somewhere an image can come from. All methods throw `MicrovmError`s; none trusts what it reads. */
export interface ImageSource extends AsyncDisposable {
  /** The digest behind a tag, if it can be had without fetching the document. */
  resolve(tag: string): Promise<string | undefined>;
  /** The document behind a tag or digest. */
  manifest(tagOrDigest: string): Promise<SourceDocument>;
  /** A small blob, whole; size and digest are those of the descriptor. */
  document(descriptor: Descriptor, what: string): Promise<Buffer>;
  /**
   * A blob as a stream of exactly `descriptor.size` bytes. Its digest is for the reader to check; a chunk is valid
   * until the next is asked for.
   *
   * @param onRetry called when the stream broke and is about to be resumed
   */
  blob(descriptor: Descriptor, signal: AbortSignal, onRetry: (reason: string) => void): AsyncIterable<Buffer>;
}
