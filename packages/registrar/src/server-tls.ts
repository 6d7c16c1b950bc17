import { ensureCa, ensureServerCertificate, type Provision } from '@keylime/pki/ca-folder';
import { caOptionsOf } from '@keylime/pki/ca-options';
import { serverSubjectNames } from '@keylime/pki/subject-names';
import { serviceCaPassword } from '@keylime/service/ca-password';
import { registrarCertificates } from '@keylime/service/certificate-paths';
import type { CaConfig, RegistrarConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';
import { readKeyPair, readTlsFile } from '@keylime/service/tls-files';

/**
 * With `tls_dir = generate` a CA of the registrar's own and its server certificate are made in `reg_ca`, or renewed (spec 07
 * section 7); every other folder is left alone.
 * @throws PkiError, PasswordError
 */
export async function provideServerTls(config: RegistrarConfig, ca: CaConfig, log: Log): Promise<void> {
  const { directory, generate, server } = registrarCertificates(config);
  if (!generate) return;
  const folder = { dir: directory, password: serviceCaPassword(ca), options: caOptionsOf(ca) };
  const made = await ensureCa(folder);
  const names = await serverSubjectNames({
    bindAddress: config.ip,
    additional: config.cert_subject_alternative_names,
  });
  const { provision } = await ensureServerCertificate({ ...folder, names, keyPassword: server.password });
  const provisions: readonly Provision[] = [made.provision, provision];
  const tell = provisions.some((one) => one !== 'kept') ? log.info : log.debug;
  tell('Certificates are in place', { folder: directory, ca: made.provision, server: provision });
}

/** The files that `openServerTls` reads. */
export function serverTlsFiles(config: RegistrarConfig): readonly string[] {
  const { server, trustedClientCa } = registrarCertificates(config);
  return [server.certificate, server.key, ...trustedClientCa];
}

/** What the HTTPS port shows and whom it believes, read from where `tls_dir` says. @throws TlsFileError */
export async function openServerTls(config: RegistrarConfig): Promise<ServerTls> {
  const { server, trustedClientCa } = registrarCertificates(config);
  const startVerifier = 'the verifier makes it, so start the verifier first';
  const own =
    config.tls_dir === 'default'
      ? `${startVerifier}, or set tls_dir = generate`
      : 'check tls_dir, server_cert and server_key';
  const clients = config.trusted_client_ca.includes('default')
    ? `${startVerifier}, or (not with tls_dir = generate) name the CA of your administrators in trusted_client_ca`
    : 'check trusted_client_ca';
  return {
    ...(await readKeyPair(server, own)),
    clientCaPems: await Promise.all(trustedClientCa.map((file) => readTlsFile(file, clients))),
  };
}
