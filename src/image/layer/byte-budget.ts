// SPDX-License-Identifier: Apache-2.0
import { overLimit } from "../image-errors.ts";
import { IMAGE_LIMITS, type ImageLimits } from "../limits.ts";

/** What the layers of one image may still decompress to; shared, so that a bomb cannot be split over layers. */
export class ByteBudget {
  readonly #limits: ImageLimits;
  #image = 0;

  constructor(limits: ImageLimits = IMAGE_LIMITS) {
    this.#limits = limits;
  }

  /** Accounts for a layer that was decompressed earlier. */
  takeStored(bytes: number): void {
    const { maxImageBytes } = this.#limits;
    this.#image += bytes;
    if (this.#image > maxImageBytes)
      throw overLimit(`the image decompresses to more than ${maxImageBytes} bytes`);
  }

  /** The account of one layer that is being decompressed. */
  layer(): LayerBudget {
    let bytes = 0;
    const { maxLayerBytes, maxRatio, ratioFreeBytes } = this.#limits;
    return {
      take: (decompressed, compressed) => {
        bytes += decompressed;
        if (bytes > maxLayerBytes) throw overLimit(`decompresses to more than ${maxLayerBytes} bytes`);
        this.takeStored(decompressed);
        if (bytes > ratioFreeBytes && bytes > compressed * maxRatio) {
          throw overLimit(`decompresses to more than ${maxRatio} times its size`);
        }
      },
    };
  }
}

export interface LayerBudget {
  /**
   * Accounts for `decompressed` more bytes, before they are written anywhere.
   *
   * @param compressed how much of the blob it took so far
   * @throws MicrovmError `IMAGE_LIMIT`
   */
  take(decompressed: number, compressed: number): void;
}
