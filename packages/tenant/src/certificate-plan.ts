import { X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pythonJson } from '@keylime/api/python-json';
import type { AgentId } from '@keylime/core/agent-id';
import { codeOf } from '@keylime/core/coded-error';
import { type NewEntry, storedZip } from '@keylime/payload/archive';
import { ensureCa, ensureCertificate, foreseeCertificate } from '@keylime/pki/ca-folder';
import type { CaOptions } from '@keylime/pki/ca-options';
import { certificatePackages } from '@keylime/pki/certificate-package';
import { isCertificateName } from '@keylime/pki/key-store';
import { type CaFolder, findCertificate, findKeyStore, hasCa } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { subjectNames } from '@keylime/pki/subject-names';
import { PasswordError } from '@keylime/service/ask-password';
import type { Log } from '@keylime/service/log';
import { TenantError } from './tenant-error.ts';

export type CertificateSettings = {
  /** What `--cert default` means. */
  readonly defaultDir: string;
  readonly options: () => CaOptions;
  /** Asks a person if the configuration does not say it. */
  readonly password: () => Promise<string>;
  /** PEM of the CAs whose certificates make an administrator. */
  readonly serviceCas: () => readonly string[];
  readonly now: Date;
  readonly log: Log;
};

/** A certificate package with the certificate that revocation messages are checked with, and what the verifier is told. */
export type MachineCertificate = {
  /** Stored ZIP. */
  readonly archive: Buffer;
  /** PKCS#8 PEM. */
  readonly revocationKey: string;
  /** JSON. */
  readonly metadata: string;
};

const NOTIFIER = 'RevocationNotifier';
const NOTIFIER_CERTIFICATE = `${NOTIFIER}-cert.crt`;
/** Names of certificates that are no machine's: a machine of that name would get their private keys. */
const RESERVED = [NOTIFIER, 'server', 'client'];

/**
 * Reads the files to be included and opens the CA, before anybody is asked anything; `make` issues what is missing (spec 02
 * section 5.6). Call it once the agent has shown who it is.
 * @throws TenantError
 */
export async function planCertificatePackage(
  caDir: string,
  includeDir: string | undefined,
  settings: CertificateSettings,
  id: AgentId,
): Promise<{ readonly make: () => Promise<MachineCertificate> }> {
  const { log } = settings;
  if (RESERVED.includes(id) || !isCertificateName(id)) {
    throw new TenantError('invalid_argument', `--cert makes no certificate for an agent that is called ${id}`);
  }
  const included = includeDir === undefined ? [] : await readIncluded(includeDir, log);
  const dir = caDir === 'default' ? settings.defaultDir : path.resolve(caDir);
  const folder = await explained(dir, async (): Promise<CaFolder> => {
    const opened = { dir, password: await settings.password(), options: settings.options(), now: () => settings.now };
    if (!(await hasCa(dir))) return opened;
    await refuseServiceCa(dir, settings.serviceCas());
    await findKeyStore(opened);
    return opened;
  });
  const foreseen = await explained(dir, () => foreseeCertificate(folder, id));
  return {
    make: () =>
      explained(dir, async () => {
        if (!(await hasCa(dir))) log.warn('CA directory does not exist. Creating...', { dir });
        await ensureCa(folder);
        const certificate = await ensureCertificate(folder, {
          name: id,
          purposes: ['serverAuth', 'clientAuth'],
          names: subjectNames([id]),
          foreseen,
        });
        if (certificate.provision !== 'kept') log.info(`Created certificate for name ${id} successfully in ${dir}`);
        const notifier = { name: NOTIFIER, purposes: [], names: subjectNames([NOTIFIER]), keyType: 'rsa' } as const;
        await ensureCertificate(folder, notifier);

        const [own, { certificatePem, privateKeyPem }] = await certificatePackages(folder, [id, NOTIFIER]);
        const files = [...own.files, { name: NOTIFIER_CERTIFICATE, content: Buffer.from(certificatePem) }, ...included];
        refuseTwice(files);
        const archive = await storedZip(files, settings.now);
        for (const { content } of own.files) content.fill(0);
        const metadata = pythonJson({ cert_serial: own.serial, subject: own.subject });
        return { archive, revocationKey: privateKeyPem, metadata };
      }),
  };
}

/** The files directly in `dir`, by name; folders in it are left out, as the existing tenant does, but not in silence. */
async function readIncluded(dir: string, log: Log): Promise<readonly NewEntry[]> {
  const entries: NewEntry[] = [];
  try {
    const found = await readdir(dir, { withFileTypes: true });
    for (const entry of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.isDirectory()) {
        log.warn(`--include takes no folders: ${path.join(dir, entry.name)} is left out`);
        continue;
      }
      if (!entry.isFile() && !entry.isSymbolicLink()) {
        throw new TenantError('invalid_argument', `--include: ${path.join(dir, entry.name)} is no file`);
      }
      entries.push({ name: entry.name, content: await readFile(path.join(dir, entry.name)) });
    }
  } catch (cause) {
    if (cause instanceof TenantError) throw cause;
    const why = codeOf(cause) ?? cause;
    throw new TenantError('file_unreadable', `Cannot read the directory of --include ${dir} (${why})`, { cause });
  }
  return entries;
}

/** Agents unpack an archive whole or not at all, and refuse a name that comes twice. */
function refuseTwice(files: readonly NewEntry[]): void {
  const names = new Set<string>();
  for (const { name } of files) {
    if (names.has(name)) {
      throw new TenantError('invalid_argument', `--include: ${name} is the name of a file of the certificate package`);
    }
    names.add(name);
  }
}

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** [MUST] Who holds a certificate of the services' CA may administer them; a machine must not (spec 07 section 7). */
async function refuseServiceCa(dir: string, serviceCas: readonly string[]): Promise<void> {
  const ca = await findCertificate(path.join(dir, 'cacert.crt'));
  const trusted = serviceCas.flatMap((pem) => pem.match(CERTIFICATES) ?? []).map((one) => new X509Certificate(one));
  if (ca === undefined || !trusted.some(({ publicKey }) => publicKey.equals(ca.publicKey))) return;
  throw new TenantError(
    'ca_unusable',
    `The CA in ${dir} is the one of verifier and registrar: a certificate of it would make the agent an administrator. ` +
      'Use another folder with --cert, such as default',
  );
}

async function explained<T>(dir: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PasswordError) throw new TenantError('ca_unusable', error.message, { cause: error });
    if (!(error instanceof PkiError)) throw error;
    throw new TenantError('ca_unusable', `Error reading the keystore from ${dir}: ${error.message}`, { cause: error });
  }
}
