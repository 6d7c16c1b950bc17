import { readFile } from 'node:fs/promises';
import { ensureCa, ensureClientCertificate, ensureServerCertificate } from '@keylime/pki/ca-folder';
import { serverSubjectNames } from '@keylime/pki/subject-names';
import { type KeyPair, verifierCertificates } from '@keylime/service/certificate-paths';
import type { CaConfig, VerifierConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';

/** A file that TLS needs cannot be used; the message names it and says what to do. */
export class TlsMaterialError extends Error {
  override readonly name = 'TlsMaterialError';
  readonly code = 'tls_material_unusable';
}

/** What the verifier shows as a server, and what it shows and trusts as a client of agents and webhooks. */
export type TlsMaterial = {
  readonly server: ServerTls;
  readonly client: { readonly certPem: string; readonly keyPem: string; readonly passphrase: string | undefined };
  readonly trustedServerCaPems: readonly string[];
};

/**
 * With `tls_dir = generate` the CA, the server's and the administrator's certificate are made in `cv_ca` where they are
 * missing, and renewed where they grow old (07 section 7 of the reference); every other folder is only read.
 * @throws TlsMaterialError, PkiError
 */
export async function openTlsMaterial(config: VerifierConfig, ca: CaConfig, log: Log): Promise<TlsMaterial> {
  const paths = verifierCertificates(config);
  if (paths.generate) {
    const folder = { dir: paths.directory, password: ca.password };
    const made = await ensureCa(folder);
    const names = await serverSubjectNames({
      bindAddress: config.ip,
      additional: config.cert_subject_alternative_names,
    });
    const server = await ensureServerCertificate({ ...folder, names, keyPassword: paths.server.password });
    const client = await ensureClientCertificate({ ...folder, keyPassword: paths.client.password });
    log.info('Certificates are in place', {
      folder: paths.directory,
      ca: made.provision,
      server: server.provision,
      client: client.provision,
    });
  }
  const pair = async ({ key, certificate, password }: KeyPair, options: string) => ({
    certPem: await read(certificate, options),
    keyPem: await read(key, options),
    passphrase: password || undefined,
  });
  const all = (files: readonly string[], option: string) => Promise.all(files.map((file) => read(file, option)));
  return {
    server: {
      ...(await pair(paths.server, 'tls_dir, server_cert and server_key')),
      clientCaPems: await all(paths.trustedClientCa, 'trusted_client_ca'),
    },
    client: await pair(paths.client, 'tls_dir, client_cert and client_key'),
    trustedServerCaPems: await all(paths.trustedServerCa, 'trusted_server_ca'),
  };
}

async function read(file: string, options: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const why = cause instanceof Error && 'code' in cause ? cause.code : cause;
    throw new TlsMaterialError(`Cannot read ${file} (${why}): check ${options}.`, { cause });
  }
}
