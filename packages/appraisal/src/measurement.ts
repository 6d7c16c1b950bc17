import { createHash } from 'node:crypto';
import { type AppendedSigner, parseAppendedSignature, verifyAppendedSignature } from '@keylime/ima/appended-signature';
import { isDmEventName } from '@keylime/ima/dm-event';
import { type ImaEntry, type ImaProblem, isSignatureShaped } from '@keylime/ima/entry';
import { verifyEvmSignature } from '@keylime/ima/evm-signature';
import { showName } from '@keylime/ima/list-text';
import { parseMeasuredKey } from '@keylime/ima/public-key';
import { IMA_PCR, type ImaLine } from '@keylime/ima/replay';
import { keyIdIn, keyIdText, parseImaSignature, type SignatureProblem } from '@keylime/ima/signature';
import type { FileDigest } from '@keylime/ima/template-fields';
import { isSizeFor, verifyImaSignature } from '@keylime/ima/verify-signature';
import type { DigestMap } from '@keylime/policies/digest-map';
import type { Excludes } from '@keylime/policies/excludes';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { BOOT_AGGREGATE } from './boot-aggregate.ts';
import type { DeviceMapper, DmProblem } from './device-mapper.ts';
import type { Explanation } from './explanation.ts';
import type { SigningKeys } from './signing-keys.ts';

/** Why one entry of a measurement list was not accepted. `index` counts the entries of the whole list from 0. */
export type MeasurementFailure =
  | {
      readonly kind: 'ima_entry_malformed';
      readonly index: number;
      readonly problem: ImaProblem;
      readonly line: string;
    }
  | (OfPath & { readonly kind: 'ima_pcr_not_ten'; readonly actual: number })
  | (OfPath & { readonly kind: 'ima_violation' })
  /** `actual` is the list's column, `expected` what its fields hash to. */
  | (OfPath & { readonly kind: 'ima_template_hash_mismatch'; readonly actual: string; readonly expected: string })
  /** `actual` is the entry's digest, `map` where it was looked for. */
  | (OfPath & { readonly kind: 'ima_path_unknown'; readonly map: DigestMapName; readonly actual: string } & Signed)
  | (OfPath & {
      readonly kind: 'ima_digest_not_allowed';
      readonly map: DigestMapName;
      readonly actual: string;
      /** Up to `MOST_SHOWN_DIGESTS`, and how many more there are. */
      readonly expected: readonly string[];
      readonly expectedMore?: number;
    } & Signed)
  /** `actual` is the entry's digest, `expected` that of its buffer; absent where its algorithm is not available. */
  | (OfPath & { readonly kind: 'ima_buffer_digest_mismatch'; readonly actual: string; readonly expected?: string })
  /** `actual` is the entry's digest, that of the key. */
  | (OfPath & { readonly kind: 'ima_key_unsupported'; readonly keyType: string; readonly actual: string })
  | (OfPath & { readonly kind: 'ima_signature_malformed'; readonly sizeBytes: number; readonly keyId?: string })
  | (Partial<OfPath> & {
      readonly kind: 'ima_device_mapper';
      readonly problem: DmProblem;
      readonly detail: string;
    });

type OfPath = {
  readonly index: number;
  readonly path: string;
  readonly template: string;
  /** What else is known of path and digest: explanation.ts. */
  readonly explanation?: Explanation;
};

/** Why the signature that an entry carries did not help it; absent where it carries none. */
type Signed = { readonly signature?: SignatureFinding };

export type SignatureFinding = {
  /** Eight hexadecimal digits; absent where the signature names none. */
  readonly keyId?: string;
  /** Serial number of the certificate that an appended signature names instead, in hex. */
  readonly keySerial?: string;
  readonly problem:
    | SignatureProblem
    | 'pkcs7'
    | 'key_unknown'
    | 'wrong_digest_algorithm'
    | 'not_of_this_digest'
    | 'invalid';
};

/** The member of a runtime policy that decides. */
export type DigestMapName = 'digests' | 'keyrings' | 'ima-buf';

/** Reference values for single measurements, and what the entries before one have taught. */
export type MeasurementRules = {
  readonly policy: RuntimePolicy;
  /** Digests accepted for `boot_aggregate` besides the policy's, from PCRs that a quote covers. */
  readonly bootAggregates: readonly string[];
  /** What to do with entries whose file changed while it was measured: nothing certifies their name or digest. */
  readonly violations: 'accept' | 'fail';
  readonly keys: SigningKeys;
  /** Where the policy has rules for devices. */
  readonly deviceMapper: DeviceMapper | undefined;
};

const LONGEST_SHOWN_LINE = 300;
const MOST_SHOWN_DIGESTS = 16;
/** For one entry: a keyring has a few keys, and a list of many signatures must not make thousands of attempts of each. */
const MOST_TRIED_KEYS = 16;

/**
 * Judges one replayed line in the order: readable, PCR, violation, template hash, then the rule of its template. An entry
 * that must be refused for several reasons gives the first one of each stage that was reached.
 */
export function judgeLine(line: ImaLine, rules: MeasurementRules): readonly MeasurementFailure[] {
  const { index, parsed } = line;
  if (!parsed.ok) {
    const text = showName(Buffer.from(line.line.subarray(0, LONGEST_SHOWN_LINE)).toString('latin1'));
    return [{ kind: 'ima_entry_malformed', index, problem: parsed.problem, line: text }];
  }
  const entry = parsed.value;
  const { path, pcr, template } = entry;
  const place = { index, path, template };
  const wrongPcr: readonly MeasurementFailure[] =
    pcr === IMA_PCR ? [] : [{ kind: 'ima_pcr_not_ten', ...place, actual: pcr }];
  if (line.violation) {
    return rules.violations === 'accept' ? wrongPcr : [...wrongPcr, { kind: 'ima_violation', ...place }];
  }
  const expected = line.computedHash ?? '';
  if (entry.templateHash !== expected) {
    return [...wrongPcr, { kind: 'ima_template_hash_mismatch', ...place, actual: entry.templateHash, expected }];
  }
  if (entry.buffer) return [...wrongPcr, ...judgeBuffer(place, entry, entry.buffer, rules)];
  const refused = judgeFile(place, entry, rules);
  return refused ? [...wrongPcr, refused] : wrongPcr;
}

type Place = { readonly index: number; readonly path: string; readonly template: string };

/** A file passes by its digest, by an exclude, or by a signature: any of them will do. */
function judgeFile(place: Place, entry: ImaEntry, rules: MeasurementRules): MeasurementFailure | undefined {
  const { path, fileDigest, signature: bytes } = entry;
  // Not even an excluded file may carry what is no signature: it shows a list that was not printed by a kernel.
  if (bytes && !isSignatureShaped(bytes)) {
    return { kind: 'ima_signature_malformed', ...place, sizeBytes: bytes.length, ...keyNamedIn(bytes) };
  }
  if (acceptsFile(path, fileDigest.hex, rules)) return undefined;
  const findings = [
    judgeSignature(entry, rules.keys),
    judgeMetadata(entry, rules.keys),
    judgeAppendedSignature(entry, rules.keys),
  ];
  if (findings.includes('verified')) return undefined;
  const signature = findings.find((finding) => typeof finding === 'object');
  return notListed(place, fileDigest.hex, rules.policy.digests, 'digests', signature);
}

/** Whether the policy lists this digest for this path, or excludes the path. Either order gives the same verdict. */
export const acceptsFile = (path: string, hex: string, { policy, bootAggregates }: MeasurementRules): boolean =>
  (path === BOOT_AGGREGATE && bootAggregates.includes(hex)) || isListed(path, hex, policy.digests, policy.excludes);

function isListed(path: string, hex: string, map: DigestMap, excludes: Excludes | undefined): boolean {
  return map.includes(path, hex) || (excludes?.matches(path) ?? false);
}

function notListed(
  place: Place,
  actual: string,
  digests: DigestMap,
  map: DigestMapName,
  signature?: SignatureFinding,
): MeasurementFailure {
  const allowed = digests.get(place.path);
  const more = { ...place, map, actual, ...(signature && { signature }) };
  if (allowed === undefined) return { kind: 'ima_path_unknown', ...more };
  const expected = allowed.slice(0, MOST_SHOWN_DIGESTS);
  const expectedMore = allowed.length - expected.length;
  return { kind: 'ima_digest_not_allowed', ...more, expected, ...(expectedMore > 0 && { expectedMore }) };
}

/** The signature over the digest of the file, if there is one: of its content, or of its Merkle tree (fs-verity). */
function judgeSignature(
  { signature: bytes, fileDigest }: ImaEntry,
  keys: SigningKeys,
): 'verified' | SignatureFinding | undefined {
  if (bytes === undefined) return undefined;
  const parsed = parseImaSignature(bytes);
  if (!parsed.ok) return { ...keyNamedIn(bytes), problem: parsed.problem };
  const signature = parsed.value;
  const keyId = keyIdText(signature.keyId);
  if (signature.type !== (fileDigest.verity ? 'verity' : 'file')) return { keyId, problem: 'not_of_this_digest' };
  if (signature.hashAlgorithm !== fileDigest.algorithm) return { keyId, problem: 'wrong_digest_algorithm' };
  const key = keys.find(signature.keyId, 'file')?.key;
  if (key === undefined) return { keyId, problem: 'key_unknown' };
  const digest = Buffer.from(fileDigest.hex, 'hex');
  return verifyImaSignature(signature, digest, key) ? 'verified' : { keyId, problem: 'invalid' };
}

/** Which key a signature says that it is by, as far as that can be read. */
function keyNamedIn(bytes: Uint8Array): { readonly keyId?: string } {
  const keyId = keyIdIn(bytes);
  return keyId === undefined ? {} : { keyId: keyIdText(keyId) };
}

const keyNamedBy = ({
  keyId,
  serialNumber,
}: AppendedSigner): { readonly keyId?: string; readonly keySerial?: string } => ({
  ...(keyId !== undefined && { keyId: keyIdText(keyId) }),
  ...(serialNumber !== undefined && { keySerial: serialNumber }),
});

/** The EVM portable signature over the metadata of the file, its digest among them, in templates that print all of it. */
function judgeMetadata(
  { metadata, fileDigest }: ImaEntry,
  keys: SigningKeys,
): 'verified' | SignatureFinding | undefined {
  if (metadata === undefined) return undefined;
  const parsed = parseImaSignature(metadata.signature);
  if (!parsed.ok) return { ...keyNamedIn(metadata.signature), problem: parsed.problem };
  const keyId = keyIdText(parsed.value.keyId);
  const key = keys.find(parsed.value.keyId, 'metadata')?.key;
  if (key === undefined) return { keyId, problem: 'key_unknown' };
  return verifyEvmSignature(parsed.value, metadata, fileDigest, key) ? 'verified' : { keyId, problem: 'invalid' };
}

/** The signature appended to the file, over the digest of the file without it. */
function judgeAppendedSignature(
  { appendedSignature, appendedDigest }: ImaEntry,
  keys: SigningKeys,
): 'verified' | SignatureFinding | undefined {
  if (appendedSignature === undefined) return undefined;
  const parsed = parseAppendedSignature(appendedSignature);
  if (!parsed.ok) return { problem: parsed.problem };
  const { signers } = parsed.value;
  const mostTries = Math.floor(MOST_TRIED_KEYS / signers.length);
  const findings = signers.map((signer) =>
    appendedDigest === undefined
      ? ({ ...keyNamedBy(signer), problem: 'not_of_this_digest' } as const)
      : judgeSigner(signer, appendedDigest, keys, mostTries),
  );
  return findings.includes('verified') ? 'verified' : findings[0];
}

function judgeSigner(
  signer: AppendedSigner,
  { algorithm, hex }: FileDigest,
  keys: SigningKeys,
  mostTries: number,
): 'verified' | SignatureFinding {
  const named = keyNamedBy(signer);
  if (signer.hashAlgorithm !== algorithm) return { ...named, problem: 'wrong_digest_algorithm' };
  const digest = Buffer.from(hex, 'hex');
  if (signer.keyId !== undefined) {
    const key = keys.find(signer.keyId, 'file')?.key;
    if (key === undefined) return { ...named, problem: 'key_unknown' };
    return verifyAppendedSignature(signer, digest, [key]) ? 'verified' : { ...named, problem: 'invalid' };
  }
  // Keyrings hold no names: of a signer named by issuer and serial number any of the keys may be the one.
  const candidates = [...keys.all('file')].flatMap(({ key }) => (isSizeFor(signer.signature, key) ? [key] : []));
  const isVerified = verifyAppendedSignature(signer, digest, candidates.slice(0, mostTries));
  return isVerified ? 'verified' : { ...named, problem: 'key_unknown' };
}

function judgeBuffer(
  place: Place,
  { path, fileDigest }: ImaEntry,
  buffer: Uint8Array,
  { policy, keys, deviceMapper }: MeasurementRules,
): readonly MeasurementFailure[] {
  const { hex, algorithm } = fileDigest;
  const expected = bufferDigest(algorithm, buffer);
  const isDmEvent = deviceMapper !== undefined && isDmEventName(path);
  if (expected !== hex) {
    if (isDmEvent) {
      const detail = `the digest of the entry is ${hex}, that of its data ${expected ?? 'not known'}`;
      return [{ kind: 'ima_device_mapper', ...place, problem: 'invalid_data', detail }];
    }
    const mismatch = { kind: 'ima_buffer_digest_mismatch', ...place, actual: hex } as const;
    return [expected === undefined ? mismatch : { ...mismatch, expected }];
  }
  const key = parseMeasuredKey(buffer);
  if (!key.ok && key.problem.kind === 'key_unsupported') {
    return [{ kind: 'ima_key_unsupported', ...place, keyType: key.problem.keyType, actual: hex }];
  }
  if (key.ok) {
    if (policy.ignoredKeyrings.has('*') || policy.ignoredKeyrings.has(path)) return [];
    // Excludes are for files: an exclude that happens to match a keyring's name must not admit keys.
    if (!isListed(path, hex, policy.keyrings, undefined)) return [notListed(place, hex, policy.keyrings, 'keyrings')];
    keys.learn(path, key.value);
    return [];
  }
  if (isDmEvent) {
    return deviceMapper
      .judge(path, buffer, `${algorithm}:${hex}`)
      .map((finding): MeasurementFailure => ({ kind: 'ima_device_mapper', ...place, ...finding }));
  }
  return isListed(path, hex, policy.buffers, policy.excludes) ? [] : [notListed(place, hex, policy.buffers, 'ima-buf')];
}

/** Names of the kernel for the algorithms in which a buffer may be measured, with those of node:crypto. */
const BUFFER_ALGORITHMS: ReadonlyMap<string, string> = new Map([
  ['md5', 'md5'],
  ['sha1', 'sha1'],
  ['sha224', 'sha224'],
  ['sha256', 'sha256'],
  ['sha384', 'sha384'],
  ['sha512', 'sha512'],
  ['sm3', 'sm3'],
  ['sm3-256', 'sm3'],
  ['sm3_256', 'sm3'],
  ['sha3-256', 'sha3-256'],
  ['sha3-384', 'sha3-384'],
  ['sha3-512', 'sha3-512'],
]);

function bufferDigest(name: string, buffer: Uint8Array): string | undefined {
  const algorithm = BUFFER_ALGORITHMS.get(name);
  return algorithm && createHash(algorithm).update(buffer).digest('hex');
}
