import { join } from 'node:path';
import { isCrlFresh, writeCrl } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import { signingAlgorithm } from './issue.ts';
import { CA_PUBLIC_KEY, type CaFolder, findKeyStore, nowOf, readCaCertificate, writeKeyStore } from './open-ca.ts';
import { PkiError } from './pki-error.ts';
import { parsePrivateKey, privateKeyPem, publicKeyPem } from './private-key.ts';
import { makePrivateFolder, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';

/**
 * Puts the private key of an existing CA, whose `cacert.crt` is in the folder, into the key store, and makes a CRL if there
 * is none. [compat] The next certificate gets `lastSerial` + 2 (spec 07 section 6.1).
 * @throws PkiError `malformed_key`, `key_mismatch`, `wrong_key_type`, `wrong_password`
 */
export async function importCaKey(folder: CaFolder, pem: string, lastSerial: number): Promise<void> {
  const key = parsePrivateKey(pem, 'the key to be imported');
  signingAlgorithm(key);
  await makePrivateFolder(folder.dir);
  await withFolderLock(folder.dir, async () => {
    const certificate = await readCaCertificate(folder);
    if (!certificate.checkPrivateKey(key)) {
      throw new PkiError('key_mismatch', `The key to be imported is not the one of the certificate in ${folder.dir}.`);
    }
    const old = await findKeyStore(folder);
    const store = {
      caKeyPem: privateKeyPem(key),
      lastSerial: lastSerial + 1,
      revokedSerials: old?.revokedSerials ?? [],
      keys: old?.keys ?? new Map<string, string>(),
    };
    await writeKeyStore(folder, store);
    await replaceFile(join(folder.dir, CA_PUBLIC_KEY), publicKeyPem(key), PUBLIC_FILE_MODE);
    if (await isCrlFresh(folder.dir, nowOf(folder))) return;
    await writeCrl(folder.dir, { certificate, key }, store.revokedSerials, nowOf(folder));
  });
}
