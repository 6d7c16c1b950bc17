import { bad, custom, good, list, type Option, secret, strip, text } from '../options.ts';

/** Connections of the pool, and how many more may be opened under load. */
export type PoolSize = { readonly size: number; readonly overflow: number };

export const poolSize: Option<PoolSize> = custom(
  '`SIZE,OVERFLOW`',
  '5,10',
  'PostgreSQL connections: kept ones, and how many more may be opened under load. SQLite needs none.',
  (raw) => {
    const [, size, overflow] = /^(\d{1,4})\s*,\s*(\d{1,4})$/.exec(strip(raw)) ?? [];
    if (size === undefined || Number(size) === 0) return bad('expected two integers like 5,10, the first not 0');
    return good({ size: Number(size), overflow: Number(overflow) });
  },
);

/** The certificate options that verifier and registrar share. */
export const serverTls = <const Directory extends string>(directory: Directory) => ({
  tls_dir: text(
    directory,
    'Folder of certificates: `generate` (made at start), `default` (the verifier’s `cv_ca`) or a folder, relative to the work directory.',
  ),
  server_key: text('default', 'Private key of the HTTPS server: `default` or a file, relative to `tls_dir`.'),
  server_key_password: secret('Password of `server_key`.'),
  server_cert: text('default', 'Certificate of the HTTPS server: `default` or a file, relative to `tls_dir`.'),
  cert_subject_alternative_names: list('', 'More names and addresses for the generated server certificate.'),
  trusted_client_ca: list(
    'default',
    'CA certificates whose client certificates are accepted: `default` or a list of files, relative to `tls_dir`.',
  ),
});
