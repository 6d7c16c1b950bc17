import { type KeyObject, X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { findFile, PUBLIC_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export type RevocationKeys = {
  /** Any of them may have signed a revocation. */
  readonly all: () => readonly KeyObject[];
  /** Whether those of the payload are known from an earlier one, which may be gone. */
  readonly areOfEarlierPayload: () => boolean;
  /** Reads all files again. [MUST] To be called when a payload that was decrypted is in place, and never else. */
  readonly payloadChanged: () => Promise<void>;
  /** Reads the operator's files again if one was changed: a verifier changes its key, and an agent runs on for months. */
  readonly rereadInstalled: () => Promise<void>;
};

/**
 * Public keys of the certificates that revocations may be signed with: any number in each file, in PEM. Those that cannot
 * be used are reported and left out. [compat] Neither their time nor their issuer is looked at: they are trusted because
 * they came in the payload, or because the operator put them there (spec 06 section 4.5).
 *
 * A payload is gone after a reboot, and its certificates must not be: they are kept in the file `keptPath`, and used until
 * a payload brings others. @param options.paths those below `payloadFolder` are the payload's, the others the operator's.
 */
export async function openRevocationKeys(options: {
  readonly paths: readonly string[];
  readonly payloadFolder: string;
  readonly keptPath: string;
  readonly log: Log;
}): Promise<RevocationKeys> {
  const { paths, payloadFolder, keptPath, log } = options;
  const isOfPayload = (file: string) => file.startsWith(payloadFolder + path.sep);
  const read = async (own: boolean): Promise<readonly X509Certificate[]> =>
    (await Promise.all(paths.filter((file) => isOfPayload(file) === own).map((file) => readFrom(file, log)))).flat();

  const installedPaths = paths.filter((file) => !isOfPayload(file));
  let stamp = await stampOf(installedPaths);
  let installed = await read(false);
  let delivered = await read(true);
  let areKept = false;
  if (delivered.length === 0 && (await findFile(keptPath).catch(() => Buffer.alloc(0))) !== undefined) {
    delivered = await readFrom(keptPath, log);
    areKept = delivered.length > 0;
  }
  return {
    all: () => [...delivered, ...installed].map(({ publicKey }) => publicKey),
    areOfEarlierPayload: () => areKept,
    async rereadInstalled() {
      const current = await stampOf(installedPaths);
      if (current === stamp) return;
      stamp = current;
      installed = await read(false);
    },
    async payloadChanged() {
      installed = await read(false);
      const brought = await read(true);
      if (brought.length === 0) {
        if (delivered.length > 0) log.info('The certificate of an earlier payload stays the one for revocations');
        return;
      }
      delivered = brought;
      areKept = false;
      try {
        await replaceFile(keptPath, brought.join(''), PUBLIC_FILE_MODE);
      } catch (cause) {
        log.error('The certificate for revocations cannot be kept: it will be unknown after a reboot', {
          path: keptPath,
          reason: cause,
        });
      }
    },
  };
}

/** Differs after any of the files was written, replaced or removed. */
async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = paths.map(async (file) => {
    const stats = await stat(file).catch(() => undefined);
    return stats && [stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs].join();
  });
  return (await Promise.all(stamps)).join(' ');
}

async function readFrom(path: string, log: Log): Promise<readonly X509Certificate[]> {
  try {
    const file = await findFile(path);
    if (file === undefined) {
      log.info('There is no certificate for revocations', { path });
      return [];
    }
    const text = file.toString('latin1');
    // What is no PEM at all is told as what the parser makes of it.
    const certificates = (text.match(CERTIFICATES) ?? [text]).map((pem) => new X509Certificate(pem));
    const usable = certificates.filter(({ publicKey }) => publicKey.asymmetricKeyType === 'rsa');
    if (usable.length < certificates.length) {
      log.error('A certificate for revocations has no RSA key: no revocation under it will be accepted', { path });
    }
    if (usable.length > 0) log.info('The certificate for revocations is loaded', { path, certificates: usable.length });
    return usable;
  } catch (cause) {
    log.error('The certificate for revocations cannot be read: no revocation will be accepted under it', {
      path,
      reason: cause,
    });
    return [];
  }
}
