import { encodeKeyring } from '@keylime/ima/keyring';
import { parseVerificationKey, type VerificationKey } from '@keylime/ima/public-key';
import { keyIdText } from '@keylime/ima/signature';
import { refuseDetachedSignature } from '@keylime/policies/detached-signature';
import type { Log } from '@keylime/service/log';
import type { Arguments } from './options.ts';
import { downloadFile, readInput } from './runtime-policy-file.ts';
import { TenantError } from './tenant-error.ts';

/** One key to read, with its detached signature and the file of the key that made it; all by position. */
type Wanted = { readonly key: string; readonly signature?: string | undefined; readonly signer?: string | undefined };

/**
 * The keyring, as JSON text, of the keys named with `--signature-verification-key` and its kin; empty if there are none.
 * [MUST] A key with a detached signature is taken only if the signature is good. @throws TenantError
 */
export async function readSignatureKeys(given: Arguments, timeoutMs: number, log: Log): Promise<string> {
  const read = {
    file: (file: string) => readInput(file, 'key of file signatures'),
    url: (url: string) => downloadFile(url, 'key of file signatures', timeoutMs, log),
  };
  const files = paired('', given.signatureKeys, given.signatureKeySigs, given.signatureKeySigKeys);
  const urls = paired('-url', given.signatureKeyUrls, given.signatureKeySigUrls, given.signatureKeySigUrlKeys);
  const keys: VerificationKey[] = [];
  for (const wanted of files) keys.push(await readKey(wanted, read.file));
  for (const wanted of urls) {
    if (wanted.signature === undefined && !wanted.key.startsWith('https:')) {
      throw new TenantError('policy_signature', `${wanted.key} is neither signed nor fetched over https`);
    }
    keys.push(await readKey(wanted, read.url));
  }
  if (keys.length === 0) return '';
  log.warn("--signature-verification-key is deprecated: put keys into the policy's verification-keys");
  log.info('Keys for signatures of files', { ids: keys.map(({ keyId }) => keyIdText(keyId)).join(' ') });
  return JSON.stringify(encodeKeyring(keys));
}

function paired(
  suffix: string,
  keys: readonly string[],
  signatures: readonly string[],
  signers: readonly string[],
): readonly Wanted[] {
  if (signatures.length > keys.length || signers.length !== signatures.length) {
    const sig = suffix === '' ? '-sig' : '-sig-url';
    const text = `every --signature-verification-key${sig} needs its --signature-verification-key${suffix} and its ${sig}-key`;
    throw new TenantError('invalid_argument', text);
  }
  return keys.map((key, i) => ({ key, signature: signatures[i], signer: signers[i] }));
}

async function readKey(
  { key: name, signature, signer }: Wanted,
  read: (name: string) => Promise<Buffer>,
): Promise<VerificationKey> {
  const bytes = await read(name);
  if (signature !== undefined && signer !== undefined) {
    // Whom to trust is never taken from where the key came from.
    const signerKey = (await readInput(signer, 'key of the detached signature')).toString('utf8');
    const refusal = await refuseDetachedSignature(bytes, await read(signature), signerKey, new Date());
    if (refusal !== undefined) {
      throw new TenantError(
        'policy_signature',
        `The detached signature ${signature} of ${name} is not good: ${refusal}`,
      );
    }
  }
  const parsed = parseVerificationKey(bytes);
  if (parsed.ok) return parsed.value;
  const why = parsed.problem.kind === 'not_a_key' ? 'it is no key' : `it is of type ${parsed.problem.keyType}`;
  throw new TenantError('policy_invalid', `${name} is not usable for signatures of files: ${why}; RSA or EC is wanted`);
}
