// SPDX-License-Identifier: Apache-2.0
export type { NetworkAttachment, NetworkProvider } from "./provider.ts";
