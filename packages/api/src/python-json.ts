import type { Json } from '@keylime/core/json';

/**
 * JSON text as Python's `json.dumps` prints it with default settings: `", "` and `": "` between parts and every character
 * outside ASCII as a UTF-16 escape. [compat] Scripts that read the tenant's output match such text (spec 07 section 3.8).
 * Numbers are printed by JavaScript: an integral float (Python's `2.0`) has no fraction.
 */
export function pythonJson(value: Json): string {
  if (typeof value === 'string') return escapeNonAscii(JSON.stringify(value));
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(pythonJson).join(', ')}]`;
  return `{${Object.entries(value)
    .map(([key, item]) => `${pythonJson(key)}: ${pythonJson(item)}`)
    .join(', ')}}`;
}

/**
 * A JSON value as Python's `repr` prints it: single quotes, `None`, `True`, `False`. [compat] The tenant prints some answers
 * that way (spec 07 section 3.8). Printable characters outside ASCII stay as they are.
 */
export function pythonRepr(value: Json): string {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return reprText(value);
  if (isList(value)) return `[${value.map(pythonRepr).join(', ')}]`;
  return `{${Object.entries(value)
    .map(([key, item]) => `${reprText(key)}: ${pythonRepr(item)}`)
    .join(', ')}}`;
}

// Array.isArray does not narrow a readonly array out of a union.
const isList = (value: Json): value is readonly Json[] => Array.isArray(value);

const utf16Escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;

// JSON.stringify escapes what is below U+0020; Python leaves U+007F alone, as ours does.
const escapeNonAscii = (text: string): string => text.replace(/[\u0080-\uffff]/g, utf16Escape);

/** Python prefers single quotes and takes double ones when the text has single quotes and no double ones. */
function reprText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = Array.from(text, (character) => {
    if (character === '\\' || character === quote) return `\\${character}`;
    if (character === '\n') return '\\n';
    if (character === '\r') return '\\r';
    if (character === '\t') return '\\t';
    return isPrintable(character) ? character : reprEscape(character);
  });
  return `${quote}${body.join('')}${quote}`;
}

/** Python's `str.isprintable`: everything but the Unicode categories Other and Separator; the space is printable. */
const isPrintable = (character: string): boolean => character === ' ' || !/[\p{C}\p{Z}]/u.test(character);

function reprEscape(character: string): string {
  const point = character.codePointAt(0) ?? 0;
  if (point < 0x100) return `\\x${point.toString(16).padStart(2, '0')}`;
  if (point < 0x10000) return `\\u${point.toString(16).padStart(4, '0')}`;
  return `\\U${point.toString(16).padStart(8, '0')}`;
}
