// SPDX-License-Identifier: Apache-2.0
export { type YamuxOptions, YamuxSession } from "./session.ts";
export { YamuxStream, type YamuxStreamOptions } from "./stream.ts";
export type { Consumer, Substream } from "./substream.ts";
