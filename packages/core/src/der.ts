import { DecodeError } from './codec.ts';

/** One ASN.1 element: its identifier octet, its content and all its bytes. The buffers are views of the input. */
export type DerElement = { readonly tag: number; readonly content: Buffer; readonly bytes: Buffer };

export const DER = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

const CONSTRUCTED = 0x20;
const MAX_DEPTH = 24;

/**
 * The first element of `bytes`, of any length encoding (ITU-T X.690 8.1) but the indefinite one.
 * @throws DecodeError if the element is cut short or its tag has several octets.
 */
export function readElement(bytes: Buffer, path = 'element'): DerElement {
  const fail = (offset: number, problem: string): never => {
    throw new DecodeError(path, offset, problem);
  };
  const tag = bytes[0];
  const first = bytes[1];
  if (tag === undefined || first === undefined) return fail(0, `2 bytes wanted, ${bytes.length} left`);
  if ((tag & 0x1f) === 0x1f) fail(0, 'tag of several octets');
  const sizeOfLength = first < 0x80 ? 0 : first & 0x7f;
  if (first === 0x80 || sizeOfLength > 4) fail(1, `length form 0x${first.toString(16)}`);
  const start = 2 + sizeOfLength;
  if (bytes.length < start) fail(1, 'length cut short');
  const length = sizeOfLength === 0 ? first : bytes.readUIntBE(2, sizeOfLength);
  if (length > bytes.length - start) fail(start, `${length} bytes wanted, ${bytes.length - start} left`);
  return { tag, content: bytes.subarray(start, start + length), bytes: bytes.subarray(0, start + length) };
}

/** The elements that fill `content`. @throws DecodeError */
export function readElements(content: Buffer, path = 'element'): readonly DerElement[] {
  const elements: DerElement[] = [];
  for (let rest = content; rest.length > 0; ) {
    const element = readElement(rest, `${path}[${elements.length}]`);
    elements.push(element);
    rest = rest.subarray(element.bytes.length);
  }
  return elements;
}

/** `element` if it has `tag`. @throws DecodeError otherwise, also for an element that is not there. */
export function expectTag(element: DerElement | undefined, tag: number, path: string): DerElement {
  if (element?.tag === tag) return element;
  throw new DecodeError(
    path,
    0,
    `tag 0x${tag.toString(16)} wanted, ${element ? `0x${element.tag.toString(16)}` : 'nothing'} found`,
  );
}

/** An OBJECT IDENTIFIER's content in dotted form. @throws DecodeError */
export function oidText(content: Buffer, path = 'oid'): string {
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (!Number.isSafeInteger(arc)) throw new DecodeError(path, 0, 'arc too large');
    if (byte < 0x80) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first, ...others] = arcs;
  if (first === undefined || (content.at(-1) ?? 0x80) >= 0x80) throw new DecodeError(path, 0, 'cut short');
  const top = Math.min(2, Math.floor(first / 40));
  return [top, first - 40 * top, ...others].join('.');
}

/** UTCTime or GeneralizedTime in UTC. @throws DecodeError */
export function timeOf(element: DerElement | undefined, path: string): Date {
  const text = element?.content.toString('latin1') ?? '';
  const match =
    element?.tag === DER.utcTime
      ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?Z$/.exec(text)
      : element?.tag === DER.generalizedTime
        ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?Z$/.exec(text)
        : null;
  if (match === null) throw new DecodeError(path, 0, 'not a time in UTC');
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1)
    .map((part) => Number(part ?? 0));
  const fullYear = element?.tag === DER.utcTime ? year + (year < 50 ? 2000 : 1900) : year; // RFC 5280 4.1.2.5.1
  return new Date(Date.UTC(fullYear, month - 1, day, hour, minute, second));
}

/** Why a primitive value is not in the one form that DER allows (X.690 sections 8, 10 and 11). */
function primitiveProblem({ tag, content }: DerElement): string | undefined {
  const [first = 0, second = 0] = content;
  switch (tag) {
    case DER.boolean:
      return content.length === 1 && (first === 0 || first === 0xff) ? undefined : 'BOOLEAN is neither 00 nor FF';
    case DER.integer:
      if (content.length === 0) return 'INTEGER is empty';
      return content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))
        ? 'INTEGER is padded'
        : undefined;
    case DER.bitString:
      return content.length === 0 || first > 7 || ((content.at(-1) ?? 0) & (2 ** first - 1)) !== 0
        ? 'unused bits of a BIT STRING are set'
        : undefined;
    case DER.null:
      return content.length === 0 ? undefined : 'NULL has content';
    case DER.utcTime:
      return /^\d{12}Z$/.test(content.toString('latin1')) ? undefined : 'UTCTime without seconds or Z';
    case DER.generalizedTime:
      return /^\d{14}Z$/.test(content.toString('latin1')) ? undefined : 'GeneralizedTime without seconds or Z';
    default:
      return undefined;
  }
}

function elementProblem(element: DerElement, depth: number): string | undefined {
  if (depth > MAX_DEPTH) return `nested deeper than ${MAX_DEPTH}`;
  const length = element.content.length;
  const minimal = length < 0x80 ? 2 : 2 + Math.ceil(length.toString(16).length / 2);
  if (element.bytes.length - length !== minimal) return 'length is not in its shortest form';
  if ((element.tag & CONSTRUCTED) === 0) return primitiveProblem(element);
  const inner = readElements(element.content);
  if (
    element.tag === DER.set &&
    inner.some((next, i) => i > 0 && Buffer.compare(inner[i - 1]?.bytes ?? next.bytes, next.bytes) > 0)
  ) {
    return 'SET is not in order';
  }
  for (const next of inner) {
    const problem = elementProblem(next, depth + 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/**
 * What keeps `bytes` from being exactly one DER element (X.690 section 10), or `undefined`. Certificates in the field
 * fail here with unordered RDN sets and with padding from NV memory (spec of the registrar: `malformed_cert_action`).
 */
export function derProblem(bytes: Buffer): string | undefined {
  try {
    const element = readElement(bytes);
    const left = bytes.length - element.bytes.length;
    return left > 0 ? `${left} bytes after the certificate` : elementProblem(element, 0);
  } catch (error) {
    if (error instanceof DecodeError) return error.message;
    throw error;
  }
}
