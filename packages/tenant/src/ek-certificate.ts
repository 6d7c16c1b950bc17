import type { KeyObject } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Certificate, certifiesKey, parseCertificate } from '@keylime/identity/certificate';
import {
  endorsementProblemText,
  endorsementWarningText,
  readTrustAnchors,
  verifyEndorsement,
} from '@keylime/identity/trust-store';
import type { Log } from '@keylime/service/log';
import { excerpt } from './output.ts';

/** The certificates of TPM makers that the operator trusts: every certificate of every `*.pem` file of the folder. */
export async function readCertStore(folder: string, log: Log): Promise<readonly Certificate[]> {
  let names: readonly string[];
  try {
    names = (await readdir(folder)).filter((name) => name.endsWith('.pem')).toSorted();
  } catch (error) {
    log.warn(`The store of TPM makers' certificates ${folder} cannot be read: ${excerpt(String(error))}`);
    return [];
  }
  const files = await Promise.all(
    names.map(async (name) => ({ name, text: await readPem(path.join(folder, name), log) })),
  );
  const { certificates, problems } = readTrustAnchors(files.filter(({ text }) => text !== ''));
  for (const { file, index, problem } of problems) {
    log.warn(`${path.join(folder, file)}: certificate ${index + 1} is left out: ${problem.detail}`);
  }
  return certificates;
}

async function readPem(file: string, log: Log): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    log.warn(`${file} is left out: ${excerpt(String(error))}`);
    return '';
  }
}

/**
 * Why an EK certificate (base64 DER, as the registrar sends it) does not vouch for `ek`, or `undefined` if it does. [MUST]
 * It must be issued under a certificate of the store, and be for the very key that the credential was made for; the
 * registrar checks the latter too, but the tenant need not take its word. Without `ek` only the issuer is checked.
 */
export function ekCertificateProblem(given: {
  readonly ekcert: string | null;
  readonly ek: KeyObject | undefined;
  readonly store: readonly Certificate[];
  readonly storeFolder: string;
  readonly now: Date;
  readonly log: Log;
}): string | undefined {
  if (given.ekcert === null) {
    return 'it registered without an EK certificate and require_ek_cert is True';
  }
  const certificate = parseCertificate(given.ekcert);
  if (!certificate.ok) return `its EK certificate cannot be read: ${certificate.problem.detail}`;
  const mismatch = ekMismatch(certificate.value, given.ek);
  if (mismatch !== undefined) return mismatch;
  const endorsement = verifyEndorsement({
    certificate: certificate.value,
    intermediates: [],
    anchors: given.store,
    now: given.now,
  });
  if (!endorsement.ok) {
    const why = endorsementProblemText(endorsement.problem);
    return `Invalid EK certificate: ${why}; certificates of TPM makers are taken from ${given.storeFolder} (*.pem)`;
  }
  for (const warning of endorsement.warnings) given.log.warn(`EK certificate: ${endorsementWarningText(warning)}`);
  return undefined;
}

/** [MUST] The certificate is for the EK that the registrar used. */
export const ekMismatch = (certificate: Certificate, ek: KeyObject | undefined): string | undefined =>
  ek === undefined || certifiesKey(certificate, ek) ? undefined : 'its EK certificate is for another EK than ek_tpm';
