import { bad, good, type Parsed } from '@keylime/core/parsed';
import { isSignatureTypeId } from './signature.ts';
import { decodeField, type FileDigest, type ImaFieldId, isTemplateFormat, templateFields } from './template-fields.ts';

/** One measurement: what one line of `ascii_runtime_measurements` says. Nothing in it is verified by parsing. */
export type ImaEntry = {
  readonly pcr: number;
  /** Lower-case hex of the second column; the list's file decides the algorithm (SHA-1 unless its name has a suffix). */
  readonly templateHash: string;
  /** A name of `IMA_TEMPLATES`, or a format such as `d-ng|n-ng|sig`. */
  readonly template: string;
  readonly fileDigest: FileDigest;
  /** File, keyring or buffer name; a byte that is not UTF-8 is U+DC00 + byte (list-text.ts). */
  readonly path: string;
  /** Raw `sig` field (security.ima); absent where the field is empty or the template has none. */
  readonly signature?: Uint8Array;
  /** Raw `buf` field, possibly empty; only in `ima-buf`. */
  readonly buffer?: Uint8Array;
  /** Digest of the file without the signature appended to it; absent where there is none. */
  readonly appendedDigest?: FileDigest;
  /** Raw `modsig` field (appended-signature.ts); absent where the field is empty or the template has none. */
  readonly appendedSignature?: Uint8Array;
  /** What an EVM portable signature covers, where there is one. */
  readonly metadata?: ImaMetadata;
  /**
   * The kernel saw a file changing while it was measured: the template hash column is all zeros and the PCR was extended
   * with ones. Digest and name are then covered by nothing. A column of all ones is no violation but a wrong hash.
   */
  readonly violation: boolean;
  /** What the kernel hashed: u32le length and data per field; without lengths for template `ima`. */
  readonly templateInput: Uint8Array;
};

/** Metadata of a file, and the signature over it. Numbers are as the list prints them, bytes as the kernel had them. */
export type ImaMetadata = {
  /** security.evm. */
  readonly signature: Uint8Array;
  readonly xattrNames: readonly string[];
  /** In the order of the names. */
  readonly xattrValues: readonly Uint8Array[];
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
};

/** The part of a line that cannot be read. */
export type ImaProblem =
  | 'line_length'
  | 'field_count'
  | 'pcr'
  | 'template_hash'
  | 'template'
  | 'template_format'
  | ImaFieldId;

/** No kernel prints more: a name has at most 4,096 bytes, and buffers and signatures are far from half of this. */
const LONGEST_LINE = 1 << 20;

/**
 * Parses one line of `ascii_runtime_measurements` without its newline, given as bytes or as text of one character per
 * byte (latin1). Source: Linux security/integrity/ima/ima_fs.c `ima_ascii_measurements_show`,
 * Documentation/security/IMA-templates.rst.
 */
export function parseImaLine(line: string | Uint8Array): Parsed<ImaEntry, ImaProblem> {
  if (line.length > LONGEST_LINE) return bad('line_length');
  const text =
    typeof line === 'string' ? line : Buffer.from(line.buffer, line.byteOffset, line.length).toString('latin1');
  // A one-digit PCR is padded with a leading space; an empty last field leaves a trailing one.
  const start = text.startsWith(' ') ? 1 : 0;
  const [head, rest] = splitFields(text, start, 3);
  const [pcrText = '', hashText = '', templateText = ''] = head;
  if (rest === undefined) return bad('field_count');
  if (!/^\d{1,2}$/.test(pcrText) || Number(pcrText) > 23) return bad('pcr');
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(hashText)) return bad('template_hash');
  const ids = templateFields(templateText);
  if (ids === undefined) return bad(isTemplateFormat(templateText) ? 'template_format' : 'template');

  const violation = /^0+$/.test(hashText);
  const [fieldTexts, lastText] = splitFields(text, rest, ids.length - 1);
  if (lastText === undefined) return bad('field_count');
  fieldTexts.push(text.slice(lastText));

  const data = new Map<ImaFieldId, Uint8Array>();
  let fileDigest: FileDigest | undefined;
  let appendedDigest: FileDigest | undefined;
  let path: string | undefined;
  const input: Uint8Array[] = [];
  for (const [i, id] of ids.entries()) {
    const field = decodeField(id, fieldTexts[i] ?? '', violation);
    if (field === undefined) return bad(id);
    if (id === 'd-modsig') appendedDigest = field.digest;
    else fileDigest ??= field.digest;
    path ??= field.name;
    data.set(id, field.data);
    if (templateText !== 'ima') input.push(u32le(field.data.length), field.data);
    else input.push(id === 'n' ? padded(field.data) : field.data);
  }
  if (fileDigest === undefined || path === undefined) return bad('field_count');
  const metadata = data.get('evmsig')?.length ? metadataOf(data) : undefined;
  const signature = data.get('sig');
  const appendedSignature = data.get('modsig');
  const buffer = data.get('buf');
  return good({
    pcr: Number(pcrText),
    templateHash: hashText.toLowerCase(),
    template: templateText,
    fileDigest,
    path,
    ...(signature && signature.length > 0 && { signature }),
    ...(buffer && { buffer }),
    ...(appendedDigest && { appendedDigest }),
    ...(appendedSignature && appendedSignature.length > 0 && { appendedSignature }),
    ...(metadata && { metadata }),
    violation,
    templateInput: Buffer.concat(input),
  });
}

/** `count` space-separated fields of `text` from `from`, and where the rest begins; `undefined` if there is no rest. */
function splitFields(text: string, from: number, count: number): [fields: string[], rest: number | undefined] {
  const fields: string[] = [];
  let at = from;
  for (let i = 0; i < count; i++) {
    const space = text.indexOf(' ', at);
    if (space < 0) return [fields, undefined];
    fields.push(text.slice(at, space));
    at = space + 1;
  }
  return [fields, at];
}

/** The fields of template `evm-sig`; `undefined` where some are empty, left out, or do not fit each other. */
function metadataOf(data: ReadonlyMap<ImaFieldId, Uint8Array>): ImaMetadata | undefined {
  const read = (id: ImaFieldId): Buffer => Buffer.from(data.get(id) ?? []);
  const [uid, gid, mode] = [read('iuid'), read('igid'), read('imode')];
  const [names, lengths, values] = [read('xattrnames'), read('xattrlengths'), read('xattrvalues')];
  if (uid.length !== 4 || gid.length !== 4 || mode.length !== 2 || names.length === 0) return undefined;
  const xattrNames = names.toString('latin1', 0, names.length - 1).split('|');
  if (lengths.length !== 4 * xattrNames.length) return undefined;
  const xattrValues: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; i < xattrNames.length; i++) {
    const length = lengths.readUInt32LE(4 * i);
    xattrValues.push(values.subarray(at, at + length));
    at += length;
  }
  if (at !== values.length) return undefined;
  const numbers = { uid: uid.readUInt32LE(), gid: gid.readUInt32LE(), mode: mode.readUInt16LE() };
  return { signature: read('evmsig'), xattrNames, xattrValues, ...numbers };
}

/** A name as template `ima` hashes it: 256 bytes, the rest zeros. */
const padded = (name: Uint8Array): Buffer => Buffer.concat([name], 256);

function u32le(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/**
 * Whether a `sig` field has the shape of an IMA signature: at least the 9 bytes of `struct signature_v2_hdr`, a type that the
 * kernel puts there, and the big-endian size in bytes 7 and 8 says how many follow. Neither a key nor a device-mapper event
 * has it, so that an `ima-buf` record cannot be shown as that of a file. Source: Linux security/integrity/integrity.h,
 * ima_template_lib.c `ima_eventsig_init`.
 */
export const isSignatureShaped = (signature: Uint8Array): boolean =>
  signature.length >= 9 &&
  isSignatureTypeId(signature[0] ?? 0) &&
  9 + ((signature[7] ?? 0) << 8) + (signature[8] ?? 0) === signature.length;
