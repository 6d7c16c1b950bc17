import { type KeyObject, X509Certificate } from 'node:crypto';
import { findFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * Public keys of the certificates that revocations may be signed with: any number in each file, in PEM. Those that cannot
 * be used are reported and left out. [compat] Neither their time nor their issuer is looked at: they are trusted because
 * they came in the payload, or because the operator put them there (spec 06 section 4.5).
 */
export async function readRevocationKeys(paths: readonly string[], log: Log): Promise<readonly KeyObject[]> {
  const found = await Promise.all(paths.map((path) => readFrom(path, log)));
  return found.flat();
}

async function readFrom(path: string, log: Log): Promise<readonly KeyObject[]> {
  try {
    const file = await findFile(path);
    if (file === undefined) {
      log.info('There is no certificate for revocations: they cannot be verified yet', { path });
      return [];
    }
    const text = file.toString('latin1');
    // What is no PEM at all is told as what the parser makes of it.
    const keys = (text.match(CERTIFICATES) ?? [text]).map((pem) => new X509Certificate(pem).publicKey);
    const usable = keys.filter(({ asymmetricKeyType }) => asymmetricKeyType === 'rsa');
    if (usable.length < keys.length) {
      log.error('A certificate for revocations has no RSA key: no revocation under it will be accepted', { path });
    }
    if (usable.length > 0) log.info('The certificate for revocations is loaded', { path, certificates: usable.length });
    return usable;
  } catch (cause) {
    log.error('The certificate for revocations cannot be read: no revocation will be accepted', {
      path,
      reason: cause,
    });
    return [];
  }
}
