export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** A JSON value without the exception: `undefined` stands for text that is not JSON. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

const [QUOTE, BACKSLASH, COMMA, OPEN_LIST, OPEN_OBJECT] = [0x22, 0x5c, 0x2c, 0x5b, 0x7b];

/**
 * `parseJson` of UTF-8 bytes that a stranger wrote: `undefined` also for more than `mostParts` lists, objects and members.
 * Each costs up to a hundred bytes of memory for two or three bytes of text, and what does not fit into the heap ends the
 * process, even from a thread with a limit of its own. Long texts are not parts: they cost what they are.
 */
export function parseJsonWithin(mostParts: number, bytes: Uint8Array): Json | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return countsAtMost(mostParts, text) ? parseJson(text.toString('utf8')) : undefined;
}

function countsAtMost(most: number, text: Buffer): boolean {
  let parts = 0;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    if (byte === QUOTE) {
      at = endOfString(text, at + 1);
      if (at === -1) return false;
    } else if (byte === COMMA || byte === OPEN_LIST || byte === OPEN_OBJECT) {
      parts++;
      if (parts > most) return false;
    }
  }
  return true;
}

/** Where the string that begins at `start` has its closing quote: the first with an even number of backslashes before it. */
function endOfString(text: Buffer, start: number): number {
  for (let quote = text.indexOf(QUOTE, start); quote !== -1; quote = text.indexOf(QUOTE, quote + 1)) {
    let before = quote;
    while (before > start && text[before - 1] === BACKSLASH) before--;
    if ((quote - before) % 2 === 0) return quote;
  }
  return -1;
}

export const isJsonObject = (value: unknown): value is { readonly [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
