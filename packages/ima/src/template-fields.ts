import { parseHex } from '@keylime/core/base64';
import { decodeUtf8 } from './list-text.ts';

const encodeLatin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Digest sizes in bytes by the names the kernel prints (Linux crypto/hash_info.c, `hash_algo_name`). */
export const IMA_DIGEST_SIZES: ReadonlyMap<string, number> = new Map([
  ['md4', 16],
  ['md5', 16],
  ['sha1', 20],
  ['rmd160', 20],
  ['sha224', 28],
  ['sha256', 32],
  ['sha384', 48],
  ['sha512', 64],
  ['sm3', 32],
  ['sm3-256', 32],
  ['sm3_256', 32],
  ['streebog256', 32],
  ['streebog512', 64],
  ['sha3-256', 32],
  ['sha3-384', 48],
  ['sha3-512', 64],
  ['wp256', 32],
  ['wp384', 48],
  ['wp512', 64],
]);

/** What a `d`, `d-ng` or `d-ngv2` field says: an fs-verity digest is over the Merkle tree, not over the content. */
export type FileDigest = {
  readonly algorithm: string;
  /** Lower case. */
  readonly hex: string;
  readonly verity: boolean;
};

/** Template fields in the order of Linux Documentation/security/IMA-templates.rst and ima_template.c. */
export const IMA_TEMPLATES = {
  ima: ['d', 'n'],
  'ima-ng': ['d-ng', 'n-ng'],
  'ima-sig': ['d-ng', 'n-ng', 'sig'],
  'ima-buf': ['d-ng', 'n-ng', 'buf'],
  'ima-ngv2': ['d-ngv2', 'n-ng'],
  'ima-sigv2': ['d-ngv2', 'n-ng', 'sig'],
  'ima-modsig': ['d-ng', 'n-ng', 'sig', 'd-modsig', 'modsig'],
  'evm-sig': ['d-ng', 'n-ng', 'evmsig', 'xattrnames', 'xattrlengths', 'xattrvalues', 'iuid', 'igid', 'imode'],
} as const;

export type ImaTemplate = keyof typeof IMA_TEMPLATES;
export type ImaFieldId = (typeof IMA_TEMPLATES)[ImaTemplate][number];

/** What a format may have behind its digest and its name, in this order. */
const FURTHER_FIELDS: readonly ImaFieldId[] = [...IMA_TEMPLATES['ima-modsig'], ...IMA_TEMPLATES['evm-sig']].filter(
  (id) => id !== 'd-ng' && id !== 'n-ng',
);

/** The longest format that the kernel accepts (ima_template.c `MAX_TEMPLATE_NAME_LEN`). */
const LONGEST_FORMAT = 255;

/** Whether a name is a format, made with `ima_template_fmt=`; those of the kernel's own templates have no such bar. */
export const isTemplateFormat = (name: string): boolean => name.includes('|');

/**
 * The fields of a template by what the list calls it: its name, or, for one made with `ima_template_fmt=`, the format
 * itself, such as `d-ng|n-ng|sig`.
 *
 * The template hash covers the bytes of the fields, not what they are called. So a format is taken only if it says of any
 * record of the kernel's own templates what that template says: the digest comes first, then the name, then others in their
 * usual order. With the third field alone it could be a buffer under another label, unless that is a signature, which has a
 * shape.
 */
export function templateFields(name: string): readonly ImaFieldId[] | undefined {
  if (Object.hasOwn(IMA_TEMPLATES, name)) return IMA_TEMPLATES[name as keyof typeof IMA_TEMPLATES];
  if (name.length > LONGEST_FORMAT || !isTemplateFormat(name)) return undefined;
  const [digest = '', path = '', ...further] = name.split('|');
  if (!['d', 'd-ng', 'd-ngv2'].includes(digest) || !['n', 'n-ng'].includes(path)) return undefined;
  const isOrdered = FURTHER_FIELDS.filter((id) => further.includes(id)).join('|') === further.join('|');
  if (!isOrdered || (further.length === 1 && further[0] !== 'sig')) return undefined;
  return [digest, path, ...further] as ImaFieldId[];
}

/** One decoded field: the bytes that the kernel hashed, and what they mean. */
export type ImaField = { readonly data: Uint8Array; readonly digest?: FileDigest; readonly name?: string };

/**
 * Decodes the printed form of a field, one character per byte, or returns `undefined` where it is malformed. `violation`
 * entries print zeros of 20 bytes on older kernels whatever the algorithm.
 */
export function decodeField(id: ImaFieldId, text: string, violation: boolean): ImaField | undefined {
  switch (id) {
    case 'd':
      return digestField(text.length === 32 ? 'md5' : 'sha1', '', text, violation, false);
    case 'd-ng':
    case 'd-ngv2':
      return prefixedDigestField(id, text, violation);
    case 'd-modsig':
      return text === '' ? { data: new Uint8Array() } : prefixedDigestField('d-ng', text, violation);
    case 'n':
      return /^[^\0]{0,255}$/s.test(text) ? nameField(text) : undefined;
    case 'n-ng':
      return text.includes('\0') ? undefined : nameField(text);
    case 'xattrnames':
      if (text.includes('\0')) return undefined;
      // Of what is no file, such as boot_aggregate, there is no metadata.
      return { data: text === '' ? new Uint8Array() : encodeLatin1(`${text}\0`) };
    case 'iuid':
    case 'igid':
      return integerField(text, 4);
    case 'imode':
      return integerField(text, 2);
    default: {
      const data = parseHex(text);
      return data && { data };
    }
  }
}

function prefixedDigestField(id: 'd-ng' | 'd-ngv2', text: string, violation: boolean): ImaField | undefined {
  const parts = text.split(':');
  const type = id === 'd-ngv2' ? parts.shift() : undefined;
  if (type !== undefined && type !== 'ima' && type !== 'verity') return undefined;
  const [first = '', second] = parts;
  // The oldest d-ng lines print a bare SHA-1 or MD5 digest.
  const bare = parts.length === 1 && type === undefined;
  if (!bare && parts.length !== 2) return undefined;
  const algorithm = bare ? (first.length === 32 ? 'md5' : 'sha1') : first;
  const prefix = type === undefined ? `${algorithm}:\0` : `${type}:${algorithm}:\0`;
  return digestField(algorithm, prefix, bare ? first : (second ?? ''), violation, type === 'verity');
}

function digestField(
  algorithm: string,
  prefix: string,
  hex: string,
  violation: boolean,
  verity: boolean,
): ImaField | undefined {
  const size = IMA_DIGEST_SIZES.get(algorithm);
  const bytes = parseHex(hex);
  if (size === undefined || bytes === undefined) return undefined;
  if (bytes.length !== size && !(violation && bytes.length === 20)) return undefined;
  const digest: FileDigest = { algorithm, hex: hex.toLowerCase(), verity };
  return { digest, data: prefix === '' ? bytes : Buffer.concat([encodeLatin1(prefix), bytes]) };
}

/** A name is shown to people and compared with policies as text. */
const nameField = (text: string): ImaField => ({
  name: /^[\0-\x7f]*$/.test(text) ? text : decodeUtf8(encodeLatin1(text)),
  data: encodeLatin1(`${text}\0`),
});

function integerField(text: string, sizeBytes: 2 | 4): ImaField | undefined {
  if (text === '') return { data: new Uint8Array() };
  if (!/^\d{1,10}$/.test(text) || Number(text) >= 2 ** (8 * sizeBytes)) return undefined;
  const data = Buffer.alloc(sizeBytes);
  data.writeUIntLE(Number(text), 0, sizeBytes);
  return { data };
}
