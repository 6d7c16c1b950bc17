/**
 * Bytes of standard padded base64 (RFC 4648 section 4), or `undefined` if `text` is anything else: no white space, no
 * missing padding, no URL alphabet, no non-zero trailing bits.
 */
export function parseBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** Bytes of hexadecimal text of even length in either case, or `undefined`. */
export function parseHex(text: string): Buffer | undefined {
  return text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text) ? Buffer.from(text, 'hex') : undefined;
}
