// SPDX-License-Identifier: Apache-2.0

/** The one function of npm's fetcher that is used here; the package carries no types. */
declare module "pacote" {
  interface TarballStream extends AsyncIterable<Uint8Array> {
    on(event: "data", listener: (chunk: Uint8Array) => void): this;
  }
  const pacote: {
    readonly tarball: {
      /** Streams a package's tarball and checks its integrity; the handler may be called again after a bad download. */
      stream<T>(
        spec: string,
        handler: (tarball: TarballStream) => Promise<T>,
        options: Readonly<Record<string, unknown>>,
      ): Promise<T>;
    };
  };
  export default pacote;
}
