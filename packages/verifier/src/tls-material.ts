import { ensureCa, ensureClientCertificate, ensureServerCertificate } from '@keylime/pki/ca-folder';
import { caOptionsOf } from '@keylime/pki/ca-options';
import { serverSubjectNames } from '@keylime/pki/subject-names';
import { serviceCaPassword } from '@keylime/service/ca-password';
import { verifierCertificates } from '@keylime/service/certificate-paths';
import type { CaConfig, VerifierConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';
import { readKeyPair, readTlsFile } from '@keylime/service/tls-files';

/** What the verifier shows as a server, and what it shows and trusts as a client of agents and webhooks. */
export type TlsMaterial = {
  readonly server: ServerTls;
  readonly client: { readonly certPem: string; readonly keyPem: string; readonly passphrase: string | undefined };
  readonly trustedServerCaPems: readonly string[];
};

/**
 * Makes and renews what `tls_dir = generate` asks for, then reads all of it.
 * @throws TlsFileError, PkiError, PasswordError
 */
export async function openTlsMaterial(config: VerifierConfig, ca: CaConfig, log: Log): Promise<TlsMaterial> {
  await provideTlsMaterial(config, ca, log);
  return readTlsMaterial(config);
}

/**
 * With `tls_dir = generate` the CA, the server's and the administrator's certificate are made in `cv_ca` where they are
 * missing, and renewed where they grow old (07 section 7 of the reference); every other folder is left alone.
 * @throws PkiError, PasswordError
 */
export async function provideTlsMaterial(config: VerifierConfig, ca: CaConfig, log: Log): Promise<void> {
  const paths = verifierCertificates(config);
  if (!paths.generate) return;
  const folder = { dir: paths.directory, password: serviceCaPassword(ca), options: caOptionsOf(ca) };
  const made = await ensureCa(folder);
  const names = await serverSubjectNames({
    bindAddress: config.ip,
    additional: config.cert_subject_alternative_names,
  });
  const server = await ensureServerCertificate({ ...folder, names, keyPassword: paths.server.password });
  const client = await ensureClientCertificate({ ...folder, keyPassword: paths.client.password });
  const isNews = [made, server, client].some(({ provision }) => provision !== 'kept');
  (isNews ? log.info : log.debug)('Certificates are in place', {
    folder: paths.directory,
    ca: made.provision,
    server: server.provision,
    client: client.provision,
  });
}

/** The files that `readTlsMaterial` reads. */
export function tlsMaterialFiles(config: VerifierConfig): readonly string[] {
  const { server, client, trustedClientCa, trustedServerCa } = verifierCertificates(config);
  const pairs = [server, client].flatMap(({ certificate, key }) => [certificate, key]);
  return [...pairs, ...trustedClientCa, ...trustedServerCa];
}

/** Reads keys, certificates and CAs. @throws TlsFileError */
export async function readTlsMaterial(config: VerifierConfig): Promise<TlsMaterial> {
  const { server, client, trustedClientCa, trustedServerCa } = verifierCertificates(config);
  const all = (files: readonly string[], option: string) =>
    Promise.all(files.map((file) => readTlsFile(file, `check ${option}`)));
  return {
    server: {
      ...(await readKeyPair(server, 'check tls_dir, server_cert and server_key')),
      clientCaPems: await all(trustedClientCa, 'trusted_client_ca'),
    },
    client: await readKeyPair(client, 'check tls_dir, client_cert and client_key'),
    trustedServerCaPems: await all(trustedServerCa, 'trusted_server_ca'),
  };
}
