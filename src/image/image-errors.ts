// SPDX-License-Identifier: Apache-2.0
import { MicrovmError } from "../errors.ts";

/** The image says something that no correct tool writes. */
export function corrupt(message: string, cause?: unknown): MicrovmError {
  return new MicrovmError("IMAGE_CORRUPT", message, {
    stage: "image",
    hint: "The image is damaged or was built to do harm: pull it again, or rebuild it.",
    cause,
  });
}

/** The image asks for more than `limits.ts` allows. */
export function overLimit(message: string): MicrovmError {
  return new MicrovmError("IMAGE_LIMIT", message, {
    stage: "image",
    hint: "The image exceeds a safety limit: build it smaller or flatter.",
  });
}

/** The image is well formed but asks for something that this program, or a VM's root filesystem, cannot give. */
export function unsupported(message: string, hint = "Rebuild the image without this feature."): MicrovmError {
  return new MicrovmError("IMAGE_UNSUPPORTED", message, { stage: "image", hint });
}

const SHOWN = 128;
/** Control characters beyond ASCII's, zero-width ones and those that change the direction of text. */
const INVISIBLE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Text from an image, quoted and fit for a message: nothing in it can act on a terminal, and it is cut to a
 * bounded length. Byte strings (see tar/entry.ts) are decoded as UTF-8.
 */
export function printable(text: string): string {
  const shown = text.slice(0, SHOWN);
  const isText = /[\u0100-\uffff]/.test(shown);
  const decoded = isText ? shown : Buffer.from(shown, "latin1").toString("utf8");
  const quoted = JSON.stringify(decoded).replace(
    INVISIBLE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return text.length > SHOWN ? `${quoted}…` : quoted;
}

/** Text of unknown origin fit for a message. */
export function quoted(text: string): string {
  return printable(Buffer.from(text, "utf8").toString("latin1"));
}
