import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Certificate } from '@keylime/identity/certificate';
import { readTrustAnchors } from '@keylime/identity/trust-store';
import type { Log } from '@keylime/service/log';

/** How long what was read is used, so that nobody can make the registrar read files all the time. */
const KEEP_MS = 10_000;

/**
 * Reads the `*.pem` files directly in `folder` when asked and at most every 10 seconds: an operator adds a maker's
 * certificates without a restart. A folder that cannot be read holds nothing, and the log says so.
 */
export function trustFolder(parts: {
  readonly folder: string;
  readonly log: Log;
  readonly now: () => number;
}): () => Promise<readonly Certificate[]> {
  const { folder, log, now } = parts;
  let kept: { readonly at: number; readonly anchors: Promise<readonly Certificate[]> } | undefined;
  const read = async (): Promise<readonly Certificate[]> => {
    try {
      const names = (await readdir(folder)).filter((name) => name.endsWith('.pem')).sort();
      const files = names.map(async (name) => ({ name, text: await readFile(path.join(folder, name), 'latin1') }));
      const { certificates, problems } = readTrustAnchors(await Promise.all(files));
      for (const { file, index, problem } of problems) {
        log.warn('A file of tpm_cert_store holds something that is no certificate', {
          file,
          index,
          why: problem.detail,
        });
      }
      return certificates;
    } catch (error) {
      log.error('tpm_cert_store cannot be read: no IAK or IDevID certificate is trusted', { folder, error });
      return [];
    }
  };
  return () => {
    if (kept === undefined || now() >= kept.at + KEEP_MS) kept = { at: now(), anchors: read() };
    return kept.anchors;
  };
}
