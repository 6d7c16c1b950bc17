import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { CodedError } from '@keylime/core/coded-error';
import type { CaOptions } from '@keylime/pki/ca-options';
import { issueSelfSignedCertificate } from '@keylime/pki/issue';
import { generateRsaKey, privateKeyPem } from '@keylime/pki/private-key';
import {
  createFile,
  findFile,
  makePrivateFolder,
  PRIVATE_FILE_MODE,
  PUBLIC_FILE_MODE,
  replaceFile,
} from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

/** The verifier's own keys for notifications about agents that were enrolled without one. */
export type RevocationSigner = {
  readonly key: () => KeyObject;
  /** PEM of the certificates of the key that signs now, the one that will after it, and the one that did before it. */
  readonly certificates: () => string;
  /** Makes the next key the current one if that is older than its lifetime; tells whether it did. */
  readonly rotateIfDue: (now: Date) => Promise<boolean>;
};

export class RevocationSignerError extends CodedError<'signing_key_unusable'> {}

/** [compat] RSA is what agents verify. */
const RSA_BITS = 3072;
const DAY_MS = 86_400_000;
const COMMON_NAME = 'RevocationNotifier';

/** A file of key and certificate in one, so that they are always of one another. */
type Pair = { readonly pem: string; readonly key: KeyObject; readonly certificate: X509Certificate };

/**
 * Opens the keys in `folder`, and makes those that are missing. A receiver that has the certificates goes on accepting
 * messages over one rotation, late ones too, and should have the new ones before the next.
 * @throws RevocationSignerError
 */
export async function openRevocationSigner(options: {
  readonly folder: string;
  readonly certificate: CaOptions;
  /** 0: keys are not rotated by age. */
  readonly lifetimeDays: number;
  readonly now: Date;
}): Promise<RevocationSigner> {
  const { folder, certificate, lifetimeDays } = options;
  const file = (name: 'current' | 'next') => path.join(folder, `${name}.pem`);
  const generate = async (now: Date): Promise<string> => {
    const key = await generateRsaKey(RSA_BITS);
    const issued = await issueSelfSignedCertificate({ key, commonName: COMMON_NAME, options: certificate, now });
    return `${issued.toString('pem')}\n${privateKeyPem(key)}`;
  };
  const provide = async (name: 'current' | 'next', now: Date): Promise<Pair> => {
    if ((await findFile(file(name))) === undefined) {
      await createFile(file(name), await generate(now), PRIVATE_FILE_MODE);
    }
    return readPair(file(name));
  };
  const publish = () => replaceFile(path.join(folder, 'certificates.pem'), certificates(), PUBLIC_FILE_MODE);
  const certificates = () =>
    [current.certificate, next.certificate, ...(previous ? [previous] : [])].map(String).join('');

  await makePrivateFolder(folder);
  let current = await provide('current', options.now);
  let next = await provide('next', options.now);
  const kept = await findFile(path.join(folder, 'previous.crt'));
  let previous = kept && new X509Certificate(kept);
  if (next.pem === current.pem) {
    // A rotation that was cut off in the middle is finished.
    await replaceFile(file('next'), await generate(options.now), PRIVATE_FILE_MODE);
    next = await readPair(file('next'));
  }
  await publish();
  return {
    key: () => current.key,
    certificates,
    async rotateIfDue(now) {
      const usedSince = (await findUse(folder)) ?? Date.parse(current.certificate.validFrom);
      if (lifetimeDays === 0 || now.getTime() - usedSince < lifetimeDays * DAY_MS) return false;
      // Before the rotation: one that is cut off here is late, while two in a row would leave receivers behind.
      await replaceFile(path.join(folder, 'current-since'), now.toISOString(), PUBLIC_FILE_MODE);
      await replaceFile(path.join(folder, 'previous.crt'), current.certificate.toString(), PUBLIC_FILE_MODE);
      await replaceFile(file('current'), next.pem, PRIVATE_FILE_MODE);
      [previous, current] = [current.certificate, next];
      await replaceFile(file('next'), await generate(now), PRIVATE_FILE_MODE);
      next = await readPair(file('next'));
      await publish();
      return true;
    },
  };
}

const ROTATION_CHECK_MS = 3_600_000;

/** Has the keys rotate when their time has come: now, and then looked after every hour. */
export async function rotateOnTime(signer: RevocationSigner, log: Log): Promise<{ readonly close: () => void }> {
  async function check(): Promise<void> {
    try {
      if (!(await signer.rotateIfDue(new Date()))) return;
      log.warn('Notifications are signed with the next key now: give agents the new certificates', {
        command: 'keylime_tenant -c revocationcerts',
      });
    } catch (error) {
      log.error('The key that signs notifications could not be changed; the old one stays in use', { error });
    }
  }
  await check();
  const timer = setInterval(check, ROTATION_CHECK_MS).unref();
  return { close: () => clearInterval(timer) };
}

/** Since when the current key signs, in milliseconds since 1970; the first one does since it was made. */
async function findUse(folder: string): Promise<number | undefined> {
  const since = Date.parse((await findFile(path.join(folder, 'current-since')))?.toString('utf8') ?? '');
  return Number.isNaN(since) ? undefined : since;
}

async function readPair(file: string): Promise<Pair> {
  try {
    const pem = await readFile(file, 'utf8');
    const [key, certificate] = [createPrivateKey(pem), new X509Certificate(pem)];
    if (key.asymmetricKeyType === 'rsa' && certificate.checkPrivateKey(key)) return { pem, key, certificate };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RevocationSignerError('signing_key_unusable', `${file} cannot be used: ${why}`, { cause });
  }
  throw new RevocationSignerError(
    'signing_key_unusable',
    `${file} must hold an RSA key and its certificate: move it away, and a new one is made`,
  );
}
