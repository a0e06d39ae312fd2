// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../../errors.ts";
import { corrupt, overLimit } from "../image-errors.ts";
import { EntryBudget, IMAGE_LIMITS, type ImageLimits } from "../limits.ts";
import { retainedBytes, type TarEntry } from "./entry.ts";
import { Extensions, isExtension } from "./extensions.ts";
import { BLOCK, firstNonZero, isZeroBlock, parseHeader } from "./header.ts";
import { describeMember } from "./member.ts";
import { paxNumber } from "./pax.ts";
import { OldSparseReader, paxSparse, SparseMapReader, sparseSegments } from "./sparse.ts";

const OLD_SPARSE = 0x53; // "S"

export interface TarScannerOptions {
  readonly limits?: ImageLimits;
  /** Shared by the scanners of all layers of one image. */
  readonly budget?: EntryBudget;
}

interface PendingExtension {
  readonly typeflag: number;
  readonly body: Buffer;
  filled: number;
}

/** A sparse member whose map is still being read. */
interface PendingSparse {
  readonly entry: TarEntry;
  readonly size: number;
  /** Bytes still to come for it, not counting extension blocks. */
  storedBytes: number;
  readonly reader: OldSparseReader | SparseMapReader;
}

/**
 * Reads the headers of a tar that is pushed through it, in one pass and bounded memory.
 *
 * File contents are passed over: an entry says where its bytes lie. Understands v7, ustar, star, GNU and PAX
 * archives with every kind of sparse file. Whatever is wrong with the bytes ends in a `MicrovmError` with
 * code `IMAGE_CORRUPT`, `IMAGE_LIMIT` or `IMAGE_UNSUPPORTED`; after that the scanner is of no more use.
 */
export class TarScanner {
  readonly #onEntry: (entry: TarEntry) => void;
  readonly #limits: ImageLimits;
  readonly #budget: EntryBudget;
  readonly #extensions = new Extensions();

  #state: "members" | "trailer" = "members";
  /** Offset in the tar of the next byte to be pushed. */
  #offset = 0;
  /** Bytes to pass over before the state has its say: contents and their padding. */
  #ignore = 0;
  /** How much of `#ignore` is padding: an archive may end without it. */
  #padding = 0;
  /** A block of which only the first `#filled` bytes have been pushed yet. */
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  #zeroBlocks = 0;
  #extension: PendingExtension | undefined;
  #sparse: PendingSparse | undefined;

  constructor(onEntry: (entry: TarEntry) => void, options: TarScannerOptions = {}) {
    this.#onEntry = onEntry;
    this.#limits = options.limits ?? IMAGE_LIMITS;
    this.#budget = options.budget ?? new EntryBudget(this.#limits);
  }

  /** How many of the next bytes make no difference: a reader that can seek may `skip` them. */
  get skippable(): number {
    return this.#ignore;
  }

  /** Moves on by `count` bytes without being shown them; at most `skippable`. */
  skip(count: number): void {
    if (count > this.#ignore) throw new RangeError("skip: not so many bytes are skippable");
    this.#ignore -= count;
    this.#offset += count;
  }

  write(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    try {
      for (let at = 0; at < bytes.length; ) {
        const taken = this.#consume(bytes, at);
        at += taken;
        this.#offset += taken;
      }
    } catch (error) {
      throw located(error, this.#offset);
    }
  }

  /** Says that the last byte was pushed; throws when the archive is not complete. */
  end(): void {
    // Like other tar readers, takes an archive without end marker or last padding: no content is missing.
    const between =
      this.#filled === 0 &&
      this.#ignore <= this.#padding &&
      this.#extension === undefined &&
      this.#sparse === undefined;
    try {
      if (!between && this.#state !== "trailer") throw corrupt("unexpected end of the archive");
      this.#extensions.assertEmpty();
    } catch (error) {
      throw located(error, this.#offset);
    }
  }

  /** Takes what it can of `bytes` from `at` on; returns how much: at least one byte. */
  #consume(bytes: Buffer, at: number): number {
    const available = bytes.length - at;
    if (this.#ignore > 0) {
      const taken = Math.min(this.#ignore, available);
      this.#ignore -= taken;
      return taken;
    }
    if (this.#state === "trailer") {
      if (firstNonZero(bytes, at) < bytes.length) throw corrupt("garbage after the end of the archive");
      return available;
    }
    if (this.#extension !== undefined) return this.#fillExtension(this.#extension, bytes, at);

    if (this.#filled === 0 && available >= BLOCK) {
      this.#takeBlock(bytes.subarray(at, at + BLOCK), this.#offset + BLOCK);
      return BLOCK;
    }
    const taken = bytes.copy(this.#block, this.#filled, at, at + BLOCK - this.#filled);
    this.#filled += taken;
    if (this.#filled === BLOCK) {
      this.#filled = 0;
      this.#takeBlock(this.#block, this.#offset + taken);
    }
    return taken;
  }

  /** @param end offset in the tar of the byte after the block */
  #takeBlock(block: Buffer, end: number): void {
    if (this.#sparse !== undefined) this.#continueSparse(this.#sparse, block, end);
    else if (isZeroBlock(block)) this.#countZeroBlock();
    else this.#takeHeader(block, end);
  }

  #countZeroBlock(): void {
    this.#zeroBlocks += 1;
    if (this.#zeroBlocks === 2) this.#state = "trailer";
  }

  #takeHeader(block: Buffer, end: number): void {
    if (this.#zeroBlocks > 0) throw corrupt("garbage after the end of the archive");
    const header = parseHeader(block);
    if (isExtension(header.typeflag)) {
      this.#startExtension(header.typeflag, header.size);
      return;
    }
    const entry = describeMember(header, this.#extensions, this.#limits);
    const { pax } = this.#extensions;
    this.#extensions.clear();
    // Only files have contents; a size on anything else is ignored, as in Go's archive/tar.
    if (entry.type !== "file") {
      this.#emit(entry);
      return;
    }
    const storedBytes = paxNumber(pax, "size") ?? header.size;
    if (storedBytes < 0 || !Number.isSafeInteger(end + storedBytes + BLOCK))
      throw corrupt("size is out of range");
    if (header.typeflag === OLD_SPARSE) {
      if (!header.gnu) throw corrupt("sparse file in an archive that is not GNU's");
      const reader = new OldSparseReader(block, this.#limits);
      this.#startSparse({ entry, size: reader.realSize, storedBytes, reader }, end);
      return;
    }
    const sparse = pax === undefined ? undefined : paxSparse(pax, this.#limits);
    const size = paxNumber(pax, "GNU.sparse.size") ?? paxNumber(pax, "GNU.sparse.realsize") ?? storedBytes;
    if (sparse === undefined) {
      this.#emit({ ...entry, size: storedBytes, dataOffset: end });
      this.#ignoreContents(storedBytes);
    } else if (sparse === "map-in-data") {
      const reader = new SparseMapReader(this.#limits);
      this.#startSparse({ entry, size, storedBytes, reader }, end);
    } else {
      this.#emitSparse(entry, size, sparse, end, storedBytes);
    }
  }

  #startExtension(typeflag: number, size: number): void {
    if (size < 0) throw corrupt("size is out of range");
    if (size > this.#limits.maxPaxBytes) throw overLimit(`extension header of ${size} bytes`);
    const body = Buffer.alloc(size);
    this.#extension = { typeflag, body, filled: 0 };
    if (size === 0) this.#finishExtension(this.#extension);
  }

  #fillExtension(extension: PendingExtension, bytes: Buffer, at: number): number {
    const { body } = extension;
    const taken = bytes.copy(body, extension.filled, at, at + body.length - extension.filled);
    extension.filled += taken;
    if (extension.filled === body.length) this.#finishExtension(extension);
    return taken;
  }

  #finishExtension({ typeflag, body }: PendingExtension): void {
    this.#extension = undefined;
    this.#extensions.add(typeflag, body, this.#limits);
    this.#ignore = paddingOf(body.length);
    this.#padding = 0;
  }

  #startSparse(sparse: PendingSparse, end: number): void {
    this.#sparse = sparse;
    if (sparse.reader instanceof OldSparseReader && !sparse.reader.extended) this.#finishSparse(sparse, end);
  }

  #continueSparse(sparse: PendingSparse, block: Buffer, end: number): void {
    const { reader } = sparse;
    if (reader instanceof SparseMapReader) {
      // The map is part of the stored bytes.
      if (sparse.storedBytes < BLOCK) throw corrupt("sparse map is longer than the file");
      sparse.storedBytes -= BLOCK;
      if (reader.push(block)) this.#finishSparse(sparse, end);
    } else {
      reader.push(block);
      if (!reader.extended) this.#finishSparse(sparse, end);
    }
  }

  #finishSparse({ entry, size, storedBytes, reader }: PendingSparse, end: number): void {
    this.#sparse = undefined;
    this.#emitSparse(entry, size, reader.pairs, end, storedBytes);
  }

  #emitSparse(
    entry: TarEntry,
    size: number,
    pairs: readonly number[],
    end: number,
    storedBytes: number,
  ): void {
    if (size < 0) throw corrupt("size is out of range");
    const sparse = sparseSegments(pairs, size, end, storedBytes);
    this.#emit({ ...entry, size, dataOffset: end, sparse });
    this.#ignoreContents(storedBytes);
  }

  #emit(entry: TarEntry): void {
    this.#budget.take(retainedBytes(entry));
    this.#onEntry(entry);
  }

  #ignoreContents(bytes: number): void {
    this.#padding = paddingOf(bytes);
    this.#ignore = bytes + this.#padding;
  }
}

function paddingOf(bytes: number): number {
  return (BLOCK - (bytes % BLOCK)) % BLOCK;
}

function located(error: unknown, offset: number): unknown {
  return error instanceof MicrovmError ? error.within(`tar: byte ${offset}`) : error;
}
