import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createCertificate, initCa } from '@keylime/pki/ca-folder';
import { writeCertificatePackage } from '@keylime/pki/certificate-package';
import { importCaKey } from '@keylime/pki/import-key';
import { type CaFolder, hasCa, KEY_STORE } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { dueNames, renewCaCertificate, renewCertificate } from '@keylime/pki/renewal';
import { type Revocation, renewCrl, revokeName, revokeSerials } from '@keylime/pki/revocation';
import { findFile } from '@keylime/pki/safe-files';
import { subjectNames } from '@keylime/pki/subject-names';
import type { Log } from '@keylime/service/log';
import { type Arguments, UsageError } from './arguments.ts';
import { serveCrl } from './crl-server.ts';
import { caReport, certificateRows, reportText, rowsText } from './inventory.ts';

export type Context = {
  readonly given: Arguments;
  /** Without the password: good for looking. */
  readonly folder: CaFolder;
  /** With the password, which a person may be asked for. */
  readonly open: () => Promise<CaFolder>;
  readonly crlUrl: string;
  readonly log: Log;
  readonly print: (text: string) => void;
  readonly stopped: () => Promise<void>;
};

/** Does its work; the exit code. */
export type Command = (context: Context) => Promise<number>;

function requiredName({ given }: Context): string {
  if (given.name !== undefined) return given.name;
  throw new UsageError(255, 'you must pass in a name for the certificate using -n (or --name)');
}

const init: Command = async ({ given, folder, open, log }) => {
  // Before a person types a password for nothing.
  if (!given.force && (await hasCa(folder.dir))) {
    throw new PkiError(
      'ca_exists',
      `${folder.dir} holds a CA already. --force deletes it, with the keys of all its certificates.`,
    );
  }
  await initCa(await open(), { replace: given.force });
  log.info(`CA certificate created successfully in ${folder.dir}`);
  return 0;
};

const create: Command = async (context) => {
  const { given, folder, open, log } = context;
  const name = requiredName(context);
  const names = subjectNames(given.altNames.length > 0 ? given.altNames : [name]);
  const { purposes, keyType } = given;
  const { provision } = await createCertificate(await open(), { name, purposes, names, keyType });
  log.info(`Created certificate for name ${name} successfully in ${folder.dir}`);
  if (provision === 'renewed')
    log.warn(`The certificate that ${name} had before is still valid: list --all, revoke -s`);
  return 0;
};

const pkg: Command = async (context) => {
  const { given, open, log } = context;
  const name = requiredName(context);
  const folder = await open();
  if (given.insecure) log.warn('Unprotected private keys in cert package being written to disk');
  log.info(`Creating cert package for ${name} in ${path.basename(await writeCertificatePackage(folder, name))}`);
  return 0;
};

const revoke: Command = async (context) => {
  const { given, open, log } = context;
  if (given.name !== undefined && given.serial !== undefined) {
    throw new UsageError(2, 'You may not specify a cert and a serial at the same time');
  }
  if (given.serial === undefined) requiredName(context);
  const folder = await open();
  const done: Revocation =
    given.serial === undefined
      ? await revokeName(folder, requiredName(context), given.reason)
      : await revokeSerials(folder, [given.serial], given.reason);
  for (const serial of done.added) log.info(`Revoked certificate ${serial}`);
  for (const serial of done.already) log.info(`Certificate ${serial} was revoked already`);
  if (done.added.length + done.already.length === 0)
    log.info('There is nothing to revoke: every certificate has ended');
  return 0;
};

const importPriv: Command = async ({ given, folder, open, log }) => {
  if (given.serial === undefined) {
    throw new UsageError(255, 'you must pass in the last serial number the CA has used using -s (or --serial)');
  }
  if (!/^\d{1,15}$/.test(given.serial)) throw new UsageError(2, `--serial: "${given.serial}" is no serial number`);
  const pem = await readFile(given.file, 'utf8');
  await importCaKey(await open(), pem, Number(given.serial));
  log.info(`Imported the private key of the CA in ${folder.dir}`);
  return 0;
};

const renew: Command = async ({ given, open, log }) => {
  const folder = await open();
  if (given.ca) {
    await renewCaCertificate(folder);
    log.info(`Renewed the certificate of the CA: give cacert.crt of ${folder.dir} to everybody who trusts it`);
  }
  const names = given.name === undefined ? await dueNames(folder) : [given.name];
  let code = 0;
  for (const name of names) {
    try {
      const { notAfter } = await renewCertificate(folder, name);
      log.info(`Renewed the certificate of ${name}`, { notAfter: notAfter.toISOString() });
    } catch (error) {
      if (!(error instanceof PkiError)) throw error;
      log.error(`The certificate of ${name} was not renewed: ${error.message}`);
      code = 1;
    }
  }
  const crl = await renewCrl(folder, { always: given.force });
  if (crl === 'renewed') log.info('Renewed the CRL');
  else if (names.length === 0 && !given.ca) log.info('Nothing has to be renewed yet');
  return code;
};

const list: Command = async ({ given, folder, print }) => {
  const rows = await certificateRows(folder, given.all);
  print(given.json ? `${JSON.stringify(rows, null, 2)}\n` : rowsText(rows));
  return 0;
};

const status: Command = async ({ given, folder, print }) => {
  const report = await caReport(folder);
  print(given.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
  return report.problems.length > 0 ? 1 : 0;
};

const listen: Command = async ({ given, folder, open, crlUrl, log, stopped }) => {
  const hasKey = (await findFile(path.join(folder.dir, KEY_STORE))) !== undefined;
  if (!hasKey) log.warn('The key store is not here: the CRL is served as it is, and somebody else has to renew it');
  const server = await serveCrl({
    folder: hasKey ? await open() : folder,
    renews: hasKey,
    url: crlUrl,
    ip: given.ip,
    port: given.port,
    log,
  });
  await stopped();
  await server.close();
  return 0;
};

/** Every command by its name. */
export const COMMANDS: { readonly [name: string]: Command } = {
  init,
  create,
  pkg,
  revoke,
  listen,
  list,
  status,
  renew,
  'import-priv': importPriv,
};
