/*
 * Names in a measurement list are bytes, JSON carries text. A byte that is not part of valid UTF-8 travels as the lone
 * surrogate U+DC00 + byte (PEP 383, Python's `surrogateescape`), so bytes -> text -> bytes gives the same bytes.
 */
const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text of bytes that should be UTF-8; each byte that is not becomes one of U+DC80 to U+DCFF. Never throws. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return decodeEscaped(bytes);
  }
}

function decodeEscaped(bytes: Uint8Array): string {
  const parts: string[] = [];
  let validFrom = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length === 0) {
      parts.push(strictUtf8.decode(bytes.subarray(validFrom, at)), String.fromCharCode(0xdc00 + (bytes[at] ?? 0)));
      validFrom = at + 1;
    }
    at += length || 1;
  }
  parts.push(strictUtf8.decode(bytes.subarray(validFrom)));
  return parts.join('');
}

/** Bytes of the well-formed UTF-8 sequence at `at` (Unicode 15, table 3-7), or 0 if there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] ?? 0;
  if (lead < 0x80) return 1;
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  const second = bytes[at + 1] ?? 0;
  const least = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const most = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (length === 0 || second < least || second > most) return 0;
  for (let i = at + 2; i < at + length; i++) if (((bytes[i] ?? 0) & 0xc0) !== 0x80) return 0;
  return length;
}

/** The bytes of `text`, the inverse of `decodeUtf8`. Other lone surrogates become U+FFFD. */
export function encodeUtf8(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8');
  const parts = text.split(/([\udc80-\udcff])/u);
  return Buffer.concat(
    parts.map((part, i) => (i % 2 === 0 ? Buffer.from(part, 'utf8') : Buffer.of(part.charCodeAt(0) - 0xdc00))),
  );
}

/** A list, which came as text or as bytes, as bytes. */
export const listBytes = (list: string | Uint8Array): Uint8Array =>
  typeof list === 'string' ? encodeUtf8(list) : list;

/** `text` with everything a terminal, a log or a web page could stumble over written as `\xNN` or `\u{N}`. */
export const showName = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\\]/gu, (character) => {
    if (character === '\\') return '\\\\';
    const code = character.codePointAt(0) ?? 0;
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
