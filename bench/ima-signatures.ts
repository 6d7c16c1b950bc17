import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { parseArgs } from 'node:util';
import { appraiseRuntimeIntegrity } from '@keylime/appraisal/runtime-integrity';
import { digest, extend } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { computedKeyId } from '@keylime/ima/public-key';
import { signatureBlob } from '@keylime/ima/signing-key.fixture';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';

type KeyPair = { readonly publicKey: KeyObject; readonly privateKey: KeyObject };

const KEYS: Readonly<Record<string, () => KeyPair>> = {
  rsa2048: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  rsa4096: () => generateKeyPairSync('rsa', { modulusLength: 4096 }),
  p256: () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' }),
  p384: () => generateKeyPairSync('ec', { namedCurve: 'secp384r1' }),
  p521: () => generateKeyPairSync('ec', { namedCurve: 'secp521r1' }),
  secp256k1: () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
};

const sha256 = (text: string) => digest('sha256', Buffer.from(text)).toString('hex');
const BOOT = sha256('boot');

/** A list of files of which each passes by a signature of its own, and no policy lists one. */
function listOf(entries: number, { publicKey, privateKey }: KeyPair) {
  const keyId = computedKeyId(publicKey);
  const signed = (path: string) => {
    const blob = signatureBlob(
      { type: 3, version: 2, hashId: 4, keyId },
      sign('sha256', Buffer.from(path), privateKey),
    );
    return `ima-sig sha256:${sha256(path)} ${path} ${blob.toString('hex')}`;
  };
  let quotedPcr: Buffer = Buffer.alloc(32);
  const lines = [
    `ima-ng sha256:${BOOT} boot_aggregate`,
    ...Array.from({ length: entries }, (_, i) => signed(`/usr/bin/signed-${i}`)),
  ].map((fields) => {
    const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
    if (!parsed.ok) throw new Error(`a line was not made right: ${fields}`);
    const { templateInput } = parsed.value;
    quotedPcr = extend('sha256', quotedPcr, digest('sha256', templateInput));
    return `10 ${digest('sha1', templateInput).toString('hex')} ${fields}\n`;
  });
  return { list: lines.join(''), quotedPcr, verificationKeys: new Map([[keyId, { key: publicKey, keyId }]]) };
}

/** CPU microseconds of this process. */
function cpuMicroseconds(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** CPU microseconds for one signed entry of a list: of signatures that nobody has seen, and of the same again. */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { entries: { type: 'string', default: '3000' } },
    strict: false,
  });
  const entries = Number(values.entries);
  const text = { ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests: { boot_aggregate: [BOOT] } };
  const decoded = decodeRuntimePolicy(JSON.stringify(text));
  if (!decoded.ok) throw new Error('the policy does not decode');
  const policy = decoded.value;
  const judge = (evidence: ReturnType<typeof listOf>): number => {
    const start = cpuMicroseconds();
    const { failureCount } = appraiseRuntimeIntegrity({
      ...evidence,
      firstEntry: 0,
      bank: 'sha256',
      policy,
      violations: 'fail',
    });
    if (failureCount > 0) throw new Error('a list was refused');
    return Number(((cpuMicroseconds() - start) / entries).toFixed(1));
  };
  const results = Object.entries(KEYS).map(([name, makeKey]) => {
    // The first list has the code compiled; the one that counts is of another key.
    judge(listOf(entries, makeKey()));
    const evidence = listOf(entries, makeKey());
    return [name, { unseenMicroseconds: judge(evidence), seenMicroseconds: judge(evidence) }] as const;
  });
  return { benchmark: 'ima-signatures', entries, ours: Object.fromEntries(results) };
}
