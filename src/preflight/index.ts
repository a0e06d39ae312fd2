// SPDX-License-Identifier: Apache-2.0
export { type CheckResult, checkHost } from "./checks.ts";
