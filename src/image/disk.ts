// SPDX-License-Identifier: Apache-2.0
import { unsupported } from "./image-errors.ts";

const SECTOR = 512;
/** QEMU reads file names of up to 511 bytes. */
const MAX_FILE_NAME_BYTES = 511;

/** A file of which the disk consists in part. */
export interface DiskExtent {
  /** Relative to the folder the descriptor is in. */
  readonly path: string;
  /** A multiple of 512. */
  readonly sizeBytes: number;
}

/**
 * The text of a VMDK descriptor whose disk is the extents one after the other (VMware, "Virtual Disk Format
 * 5.0"), in the form that both of its readers take: QEMU passes over extents that are not `RW`, even on a
 * read-only disk, and libkrun's refuses every key that it does not know.
 *
 * @throws MicrovmError IMAGE_UNSUPPORTED when a path cannot be written in a descriptor
 */
export function diskDescriptor(extents: readonly DiskExtent[]): string {
  const lines = extents.filter(({ sizeBytes }) => sizeBytes > 0).map(extentLine);
  const sectors = extents.reduce((sum, { sizeBytes }) => sum + sizeBytes / SECTOR, 0);
  const [heads, sectorsPerTrack] = [255, 63];
  return `# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="twoGbMaxExtentFlat"

# Extent description
${lines.join("\n")}

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "${Math.ceil(sectors / heads / sectorsPerTrack)}"
ddb.geometry.heads = "${heads}"
ddb.geometry.sectors = "${sectorsPerTrack}"
`;
}

function extentLine({ path, sizeBytes }: DiskExtent): string {
  if (sizeBytes % SECTOR !== 0) throw new RangeError(`extent of ${sizeBytes} bytes is not whole sectors`);
  // No escapes exist in a descriptor.
  if (/["\r\n\0]/.test(path) || Buffer.byteLength(path) > MAX_FILE_NAME_BYTES) {
    throw unsupported("the image store is in a folder whose name a disk descriptor cannot hold");
  }
  return `RW ${sizeBytes / SECTOR} FLAT "${path}" 0`;
}
