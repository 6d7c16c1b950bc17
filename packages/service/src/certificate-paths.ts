import path from 'node:path';
import type { RegistrarConfig, TenantConfig, VerifierConfig } from './config.ts';

/** A private key and its certificate: absolute paths of PEM files. An empty password means an unencrypted key. */
export type KeyPair = { readonly key: string; readonly password: string; readonly certificate: string };

/** Where a program keeps its TLS material; all paths are absolute. */
export type CertificatePaths<Role extends 'server' | 'client'> = {
  readonly directory: string;
  /** What is missing in `directory` is made at start. */
  readonly generate: boolean;
  readonly trustedClientCa: readonly string[];
  readonly trustedServerCa: readonly string[];
} & { readonly [Name in Role]: KeyPair };

/** `tls_dir` and its neighbours as absolute paths: `generate` and `default` are `<work>/cv_ca`. */
export function verifierCertificates(config: VerifierConfig): CertificatePaths<'server' | 'client'> {
  const directory = directoryOf(config, 'cv_ca');
  return {
    directory,
    generate: config.tls_dir === 'generate',
    server: keyPair(directory, 'server', config.server_key, config.server_cert, config.server_key_password),
    client: keyPair(directory, 'client', config.client_key, config.client_cert, config.client_key_password),
    trustedClientCa: trusted(config, directory, config.trusted_client_ca),
    trustedServerCa: trusted(config, directory, config.trusted_server_ca),
  };
}

/** `generate` is `<work>/reg_ca`, a CA of its own; `default` is the verifier's `<work>/cv_ca`. */
export function registrarCertificates(config: RegistrarConfig): CertificatePaths<'server'> {
  const directory = directoryOf(config, 'reg_ca');
  return {
    directory,
    generate: config.tls_dir === 'generate',
    server: keyPair(directory, 'server', config.server_key, config.server_cert, config.server_key_password),
    trustedClientCa: trusted(config, directory, config.trusted_client_ca),
    trustedServerCa: [],
  };
}

/** `default` is the verifier's `<work>/cv_ca`. */
export function tenantCertificates(config: TenantConfig): CertificatePaths<'client'> {
  const directory = directoryOf(config, 'cv_ca');
  return {
    directory,
    generate: false,
    client: keyPair(directory, 'client', config.client_key, config.client_cert, config.client_key_password),
    trustedClientCa: [],
    trustedServerCa: trusted(config, directory, config.trusted_server_ca),
  };
}

type Where = { readonly tls_dir: string; readonly workDir: string };

const directoryOf = ({ tls_dir, workDir }: Where, generated: string): string => {
  if (tls_dir === 'generate') return path.join(workDir, generated);
  return path.resolve(workDir, tls_dir === 'default' ? 'cv_ca' : tls_dir);
};

const keyPair = (directory: string, role: string, key: string, certificate: string, password: string): KeyPair => ({
  key: path.resolve(directory, isDefault(key) ? `${role}-private.pem` : key),
  certificate: path.resolve(directory, isDefault(certificate) ? `${role}-cert.crt` : certificate),
  password,
});

/** `default` is `<work>/cv_ca/cacert.crt` whatever `tls_dir` says, also for `reg_ca`, as the existing services do. */
const trusted = ({ workDir }: Where, directory: string, files: readonly string[]): readonly string[] =>
  files.map((file) => (file === 'default' ? path.join(workDir, 'cv_ca', 'cacert.crt') : path.resolve(directory, file)));

const isDefault = (file: string): boolean => file === 'default' || file === '';
