import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

/**
 * The two keys of a TPM and its quotes, made in software, for tests of programs that judge quotes. It encodes by hand, so
 * that it does not share the codecs of the code under test. Sources: spec 02 sections 1.2, 1.3, 3.2 and 3.3.
 */
export type SoftwareTpm = {
  readonly ek: KeyObject;
  readonly ak: KeyObject;
  /** TPM2B_PUBLIC of the EK and of the AK. */
  readonly ekPublic: Buffer;
  readonly akPublic: Buffer;
};

export type QuoteRequest = {
  readonly nonce: string;
  /** PEM that PCR 16 is extended with. */
  readonly transportKey: string;
  /** Values of other PCRs to quote. */
  readonly pcrs?: ReadonlyMap<number, Buffer>;
  /** Signs instead of the TPM's own AK. */
  readonly signer?: KeyObject;
  /** PCRs that the unsigned part says were quoted, in place of those that were. */
  readonly relabel?: readonly number[];
};

const POLICY_A = Buffer.from('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex');
const SHA256 = 0x000b;
const RSASSA = 0x0014;

const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
const tpm2b = (bytes: Uint8Array): Buffer => Buffer.concat([u16(bytes.length), bytes]);
const sha256 = (...parts: readonly Uint8Array[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();

const modulusOf = (key: KeyObject): Buffer =>
  Buffer.from(createPublicKey(key).export({ format: 'jwk' }).n ?? '', 'base64url');

export const rsaKey = (): KeyObject => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

/** TPM2B_PUBLIC of an RSA-2048 AK with RSASSA and SHA-256, attributes 0x00050072. */
export const akPublicOf = (key: KeyObject): Buffer =>
  tpm2b(
    Buffer.concat([
      ...[u16(1), u16(SHA256), u32(0x00050072), tpm2b(Buffer.alloc(0)), u16(0x0010), u16(RSASSA), u16(SHA256)],
      ...[u16(2048), u32(0), tpm2b(modulusOf(key))],
    ]),
  );

/** TPM2B_PUBLIC of an RSA-2048 EK of the low-range template. */
export const ekPublicOf = (key: KeyObject): Buffer =>
  tpm2b(
    Buffer.concat([
      ...[u16(1), u16(SHA256), u32(0x000300b2), tpm2b(POLICY_A), u16(0x0006), u16(128), u16(0x0043), u16(0x0010)],
      ...[u16(2048), u32(0), tpm2b(modulusOf(key))],
    ]),
  );

export function softwareTpm(): SoftwareTpm {
  const [ek, ak] = [rsaKey(), rsaKey()];
  return { ek, ak, ekPublic: ekPublicOf(ek), akPublic: akPublicOf(ak) };
}

function bitmap(pcrs: readonly number[]): Buffer {
  const bytes = Buffer.alloc(3);
  for (const pcr of pcrs) bytes[pcr >> 3] = (bytes[pcr >> 3] ?? 0) | (1 << (pcr & 7));
  return bytes;
}

/** The quote string of a pull agent: bank SHA-256, PCR 16 and `request.pcrs`. */
export function quote(tpm: SoftwareTpm, request: QuoteRequest): string {
  const binding = sha256(Buffer.alloc(32), sha256(Buffer.from(request.transportKey)));
  const values = new Map([...(request.pcrs ?? []), [16, binding] as const]);
  const pcrs = [...values.keys()].toSorted((a, b) => a - b);
  const digests = pcrs.map((pcr) => values.get(pcr) ?? Buffer.alloc(32));
  const attest = Buffer.concat([
    ...[u32(0xff544347), u16(0x8018), tpm2b(Buffer.concat([u16(SHA256), sha256(tpm.akPublic)]))],
    ...[
      tpm2b(Buffer.from(request.nonce)),
      Buffer.alloc(6),
      u16(9000),
      u32(3),
      u32(0),
      Buffer.from([1]),
      Buffer.alloc(8),
    ],
    ...[u32(1), u16(SHA256), Buffer.from([3]), bitmap(pcrs), tpm2b(sha256(...digests))],
  ]);
  const signature = Buffer.concat([
    ...[u16(RSASSA), u16(SHA256), tpm2b(sign('sha256', attest, request.signer ?? tpm.ak))],
  ]);
  const parts = [attest, signature, pcrBlob(request.relabel ?? pcrs, digests)];
  return `r${parts.map((part) => part.toString('base64')).join(':')}`;
}

/** The memory image of the selection and the values: little-endian C structures of fixed size. */
function pcrBlob(pcrs: readonly number[], digests: readonly Buffer[]): Buffer {
  const lists = Math.ceil(digests.length / 8);
  const blob = Buffer.alloc(136 + 532 * lists);
  blob.writeUInt32LE(1, 0);
  blob.writeUInt16LE(SHA256, 4);
  blob.writeUInt8(3, 6);
  bitmap(pcrs).copy(blob, 7);
  blob.writeUInt32LE(lists, 132);
  for (const [index, value] of digests.entries()) {
    const list = 136 + 532 * Math.floor(index / 8);
    blob.writeUInt32LE(Math.min(8, digests.length - 8 * Math.floor(index / 8)), list);
    const at = list + 4 + 66 * (index % 8);
    blob.writeUInt16LE(value.length, at);
    value.copy(blob, at + 2);
  }
  return blob;
}
