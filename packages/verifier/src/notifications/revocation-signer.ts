import { type KeyObject, X509Certificate } from 'node:crypto';
import path from 'node:path';
import type { CaOptions } from '@keylime/pki/ca-options';
import { issueSelfSignedCertificate } from '@keylime/pki/issue';
import { generateRsaKey } from '@keylime/pki/private-key';
import { findFile, makePrivateFolder, PUBLIC_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import type { SecretVault } from '../secret-vault.ts';
import { createSigningKey, readSigningKey, type SigningKey, writeSigningKey } from './signing-key-file.ts';

/** The verifier's own keys for notifications about agents that were enrolled without one. */
export type RevocationSigner = {
  readonly key: () => KeyObject;
  /** PEM of the certificates of the key that signs now, the one that will after it, and the one that did before it. */
  readonly certificates: () => string;
  /** Makes the next key the current one if that is older than its lifetime; tells whether it did. */
  readonly rotateIfDue: (now: Date) => Promise<boolean>;
};

/** [compat] RSA is what agents verify. */
const RSA_BITS = 3072;
const DAY_MS = 86_400_000;
const COMMON_NAME = 'RevocationNotifier';

/**
 * Opens the keys in `folder`, and makes those that are missing. A receiver that has the certificates goes on accepting
 * messages over one rotation, late ones too, and should have the new ones before the next.
 * @throws SigningKeyError, SecretVaultError
 */
export async function openRevocationSigner(options: {
  readonly folder: string;
  /** Seals the keys. */
  readonly vault: SecretVault;
  readonly certificate: CaOptions;
  /** 0: keys are not rotated by age. */
  readonly lifetimeDays: number;
  readonly now: Date;
}): Promise<RevocationSigner> {
  const { folder, vault, certificate, lifetimeDays } = options;
  const file = (name: 'current' | 'next') => path.join(folder, `${name}.pem`);
  const generate = async (now: Date): Promise<SigningKey> => {
    const key = await generateRsaKey(RSA_BITS);
    const issued = await issueSelfSignedCertificate({ key, commonName: COMMON_NAME, options: certificate, now });
    return { key, certificate: new X509Certificate(Buffer.from(issued.rawData)) };
  };
  const provide = async (name: 'current' | 'next'): Promise<SigningKey> => {
    if ((await findFile(file(name))) !== undefined) return readSigningKey(file(name), vault);
    return createSigningKey(file(name), await generate(options.now), vault);
  };
  const makeNext = async (now: Date): Promise<void> => {
    next = await generate(now);
    await writeSigningKey(file('next'), next, vault);
  };
  const publish = () => replaceFile(path.join(folder, 'certificates.pem'), certificates(), PUBLIC_FILE_MODE);
  const certificates = () =>
    [current.certificate, next.certificate, ...(previous ? [previous] : [])].map(String).join('');

  await makePrivateFolder(folder);
  let current = await provide('current');
  let next = await provide('next');
  const kept = await findFile(path.join(folder, 'previous.crt'));
  let previous = kept && new X509Certificate(kept);
  // A rotation that was cut off in the middle is finished.
  if (next.certificate.raw.equals(current.certificate.raw)) await makeNext(options.now);
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
      await writeSigningKey(file('current'), next, vault);
      [previous, current] = [current.certificate, next];
      await makeNext(now);
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
