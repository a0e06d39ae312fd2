// SPDX-License-Identifier: Apache-2.0
export { type ProbeVerdict, probeAcceleration } from "./probe.ts";
