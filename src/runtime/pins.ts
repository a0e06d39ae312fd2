// SPDX-License-Identifier: Apache-2.0

/** A library inside an npm package, and everything needed to know that it is the one we mean. */
export interface PinnedLibrary {
  readonly package: string;
  readonly version: string;
  /** Subresource Integrity of the package's tarball. */
  readonly integrity: string;
  /** Size of the tarball, for progress bars. */
  readonly tarballBytes: number;
  /** Path of the library in the tarball. */
  readonly member: string;
  /** Name under which it is kept: the soname. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Version of the library itself. */
  readonly libraryVersion: string;
  /** Members kept beside the library. */
  readonly licences: readonly string[];
  /** What the licence files do not say. */
  readonly notice: string;
}

/** The kernel file that is made from a pinned libkrunfw. */
export interface PinnedKernel {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** What a platform runs on when it has no copies of its own. */
export interface RuntimePins {
  readonly libkrunfw: PinnedLibrary;
  readonly kernel: PinnedKernel;
  readonly libkrun?: PinnedLibrary | undefined;
}

const KRUNFW_NOTICE = `libkrunfw (project containers/libkrunfw) is LGPL-2.1-only. It carries a Linux kernel, which is
GPL-2.0-only; the libkrunfw project names the kernel's version and holds its configuration and patches.
This copy came, unchanged, out of the npm package named in package.json.
`;

const KRUN_NOTICE = `libkrun (project containers/libkrun) is Apache-2.0.
This copy came, unchanged, out of the npm package named in package.json.
`;

const krunfwLinuxX64: PinnedLibrary = {
  package: "@superradcompany/microsandbox-linux-x64-gnu",
  version: "0.7.2",
  integrity:
    "sha512-5gmMDYjyGXtx+13rWKeI0/f6x7ecDg6aMFVCupgr23IQODQLuGsbvn70LyXUrT0bOlYhle6i4uum2+AwVKTU8Q==",
  tarballBytes: 42_820_523,
  member: "package/lib/libkrunfw.so.5.6.1",
  name: "libkrunfw.so.5",
  sizeBytes: 21_628_880,
  sha256: "ce9a749e8471e89aa5e2ad88de0c1581c3384c100bcb107a75bb12739a12d590",
  libraryVersion: "5.6.1",
  licences: ["package/package.json"],
  notice: KRUNFW_NOTICE,
};

const krunfwLinuxArm64: PinnedLibrary = {
  package: "@superradcompany/microsandbox-linux-arm64-gnu",
  version: "0.6.8",
  integrity:
    "sha512-cMgS/pE6N2LTbdGYMNiSzfxlsD0F1fhVuCFuIULxGfGyK+zmrYHgTgV0K6n9UQY+PjseOvNn//T7FJQ7SwyJ3g==",
  tarballBytes: 36_972_941,
  member: "package/lib/libkrunfw.so.5.6.1",
  name: "libkrunfw.so.5",
  sizeBytes: 24_774_248,
  sha256: "967e6e3abbdc29d276b9d26bec44a8a11dc9736ad891e920750d442ef30f8c38",
  libraryVersion: "5.6.1",
  licences: ["package/package.json"],
  notice: KRUNFW_NOTICE,
};

const krunLinuxX64: PinnedLibrary = {
  package: "@earendil-works/gondolin-krun-runner-linux-x64",
  version: "0.12.0",
  integrity:
    "sha512-RRYsgwe2r5ApKmFNy469QgwnyjAHpAs9XANdWpTd9ol4iUYOY3sX7e0xIooAKxd+ktxGI4N/xRWicwGen3D/Ow==",
  tarballBytes: 8_037_050,
  member: "package/lib/libkrun.so.1.17.4",
  name: "libkrun.so.1",
  sizeBytes: 5_480_872,
  sha256: "d3184f89f29cfb99ecc0fa231fbdb3363e22d9efe061be6a69bc3ef687950244",
  libraryVersion: "1.17.4",
  licences: ["package/LICENSE", "package/package.json"],
  notice: KRUN_NOTICE,
};

const krunDarwinArm64: PinnedLibrary = {
  package: "@earendil-works/gondolin-krun-runner-darwin-arm64",
  version: "0.12.0",
  integrity:
    "sha512-ftDlusht4PcT7Y3TuPrZIKrCXy3isiBTVMvlXYK0pcud2uXY6uwFTGeunYgP+8ND/60ddb+MImqbfmkcK8B84A==",
  tarballBytes: 6_050_060,
  member: "package/lib/libkrun.1.17.4.dylib",
  name: "libkrun.1.dylib",
  sizeBytes: 4_386_616,
  sha256: "4ff62691ddc424a8332d79f3144a42cb87585be5fa3d6bdc61042d2a7c0dd238",
  libraryVersion: "1.17.4",
  licences: ["package/LICENSE", "package/package.json"],
  notice: KRUN_NOTICE,
};

const kernelX64: PinnedKernel = {
  sha256: "e18369250622fbb7ed942f7003df3b907610ef4d2807f951fbd1f5eb2af8d4b7",
  sizeBytes: 21_565_440,
};

const kernelArm64: PinnedKernel = {
  sha256: "8e0860daadf81cfcd18927e816f10a073f70515b1794b616e74454e74c1a4295",
  sizeBytes: 24_576_000,
};

/**
 * Pins by `${process.platform}-${process.arch}`.
 *
 * macOS takes its kernel out of the Linux library too: the two carry the same kernel, and one parser will do.
 */
export const RUNTIME_PINS: Readonly<Record<string, RuntimePins>> = {
  "linux-x64": { libkrunfw: krunfwLinuxX64, kernel: kernelX64, libkrun: krunLinuxX64 },
  "linux-arm64": { libkrunfw: krunfwLinuxArm64, kernel: kernelArm64 },
  "darwin-arm64": { libkrunfw: krunfwLinuxArm64, kernel: kernelArm64, libkrun: krunDarwinArm64 },
};
