// SPDX-License-Identifier: Apache-2.0
/** One layer of an image that is being pulled. */
export interface PullLayer {
  /** Digest of the compressed blob: what progress events are keyed by. */
  readonly digest: string;
  readonly diffId: string;
  /** Compressed bytes. */
  readonly size: number;
}

/** Where one layer is. */
export type LayerStatus =
  /** In the store already; nothing is downloaded. */
  | "exists"
  | "downloading"
  /** The connection broke; the download resumes after a pause. `reason` says why. */
  | "retrying"
  /** Downloaded, both digests correct, in the store. */
  | "verified";

/** What `pull` reports while it works, in order; enough to draw one progress bar per layer. */
export type PullEvent =
  | { readonly type: "resolving"; readonly reference: string }
  | {
      readonly type: "resolved";
      readonly reference: string;
      /** Digest of the image's manifest: its id. */
      readonly digest: string;
      /** `linux/amd64` */
      readonly platform: string;
      readonly layers: readonly PullLayer[];
    }
  | {
      readonly type: "layer";
      readonly digest: string;
      readonly status: LayerStatus;
      /** Compressed bytes so far, and in all. */
      readonly bytes: number;
      readonly total: number;
      readonly reason?: string;
    }
  | { readonly type: "flattening"; readonly digest: string }
  /** `fromStore`: the image was complete already, so nothing was downloaded or written. */
  | { readonly type: "done"; readonly digest: string; readonly fromStore: boolean };

export type PullListener = (event: PullEvent) => void;
