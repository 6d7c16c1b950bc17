import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { CodedError, codeOf } from '@keylime/core/coded-error';
import type { KeyPair } from './certificate-paths.ts';

/** A file that TLS needs cannot be used; the message names it and says what to do. */
export class TlsFileError extends CodedError<'tls_file_unreadable' | 'tls_files_unusable'> {}

/** The text of a file with certificates or a key. `advice` says what to do if it is not there. @throws TlsFileError */
export async function readTlsFile(file: string, advice: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const why = codeOf(cause) ?? cause;
    throw new TlsFileError('tls_file_unreadable', `Cannot read ${file} (${why}): ${advice}.`, { cause });
  }
}

/** A certificate and its key, which TLS can use. `advice` says what to do if one of them is not there. @throws TlsFileError */
export async function readKeyPair(
  { certificate, key, password }: KeyPair,
  advice: string,
): Promise<{ readonly certPem: string; readonly keyPem: string; readonly passphrase: string | undefined }> {
  const certPem = await readTlsFile(certificate, advice);
  const keyPem = await readTlsFile(key, advice);
  const passphrase = password || undefined;
  try {
    createSecureContext({ cert: certPem, key: keyPem, ...(passphrase && { passphrase }) });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const check = 'check that they are PEM, belong together, and that the password of the key is right';
    throw new TlsFileError('tls_files_unusable', `Cannot use ${certificate} with ${key} (${why}): ${check}.`, {
      cause,
    });
  }
  return { certPem, keyPem, passphrase };
}
