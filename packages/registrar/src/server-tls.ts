import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { ensureCa, ensureServerCertificate } from '@keylime/pki/ca-folder';
import { serverSubjectNames } from '@keylime/pki/subject-names';
import { registrarCertificates } from '@keylime/service/certificate-paths';
import type { RegistrarConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';

/** The HTTPS port has not what it needs; the message names the file and says what to do. */
export class ServerTlsError extends Error {
  override readonly name = 'ServerTlsError';
  readonly code = 'server_tls_unusable';
}

/**
 * What the HTTPS port shows and whom it believes (spec 07 section 7). With `tls_dir = generate` a CA of the registrar's own
 * and its server certificate are made in `reg_ca`, or renewed; every other folder must be there and is only read.
 * @throws ServerTlsError, PkiError
 */
export async function openServerTls(config: RegistrarConfig, log: Log): Promise<ServerTls> {
  const { directory, generate, server, trustedClientCa } = registrarCertificates(config);
  if (generate) {
    const ca = await ensureCa({ dir: directory });
    const names = await serverSubjectNames({
      bindAddress: config.ip,
      additional: config.cert_subject_alternative_names,
    });
    const { provision } = await ensureServerCertificate({ dir: directory, names, keyPassword: server.password });
    log.info('Certificates are in place', { folder: directory, ca: ca.provision, server: provision });
  }
  const read = async (file: string, advice: string): Promise<string> => {
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      const why = cause instanceof Error && 'code' in cause ? cause.code : cause;
      throw new ServerTlsError(`Cannot read ${file} (${why}): ${advice}.`, { cause });
    }
  };
  const startVerifier = 'the verifier makes it, so start the verifier first';
  const own =
    config.tls_dir === 'default'
      ? `${startVerifier}, or set tls_dir = generate`
      : 'check tls_dir, server_cert and server_key';
  const clients = config.trusted_client_ca.includes('default')
    ? `${startVerifier}, or (not with tls_dir = generate) name the CA of your administrators in trusted_client_ca`
    : 'check trusted_client_ca';
  const tls = {
    certPem: await read(server.certificate, own),
    keyPem: await read(server.key, own),
    passphrase: server.password || undefined,
    clientCaPems: await Promise.all(trustedClientCa.map((file) => read(file, clients))),
  };
  try {
    createSecureContext({
      cert: tls.certPem,
      key: tls.keyPem,
      ...(tls.passphrase ? { passphrase: tls.passphrase } : {}),
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const advice = 'check that they are PEM, belong together, and that server_key_password is right';
    throw new ServerTlsError(`Cannot use ${server.certificate} with ${server.key} (${why}): ${advice}.`, { cause });
  }
  return tls;
}
