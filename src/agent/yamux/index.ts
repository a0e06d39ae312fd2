// SPDX-License-Identifier: Apache-2.0

export type { Consumer } from "./inbound.ts";
export { type YamuxOptions, YamuxSession } from "./session.ts";
export { YamuxStream, type YamuxStreamOptions } from "./stream.ts";
export type { Substream } from "./substream.ts";
