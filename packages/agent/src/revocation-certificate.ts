import { type KeyObject, X509Certificate } from 'node:crypto';
import { findFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

/**
 * Public key of the certificate that revocations must be signed with, or `undefined` if there is none that can be used.
 * [compat] Neither its time nor its issuer is looked at: it is trusted because it came in the payload, or because the
 * operator put it there (spec 06 section 4.5).
 */
export async function readRevocationKey(path: string, log: Log): Promise<KeyObject | undefined> {
  try {
    const pem = await findFile(path);
    if (pem === undefined) {
      log.info('There is no certificate for revocations: they cannot be verified yet', { path });
      return undefined;
    }
    const { publicKey } = new X509Certificate(pem);
    if (publicKey.asymmetricKeyType !== 'rsa') {
      log.error('The certificate for revocations has no RSA key: no revocation will be accepted', { path });
      return undefined;
    }
    log.info('The certificate for revocations is loaded', { path });
    return publicKey;
  } catch (cause) {
    log.error('The certificate for revocations cannot be read: no revocation will be accepted', {
      path,
      reason: cause,
    });
    return undefined;
  }
}
