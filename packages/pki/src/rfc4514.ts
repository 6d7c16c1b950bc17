import * as x509 from './x509.ts';

/**
 * The subject of a certificate as text (RFC 4514): the last part first, separated by commas, as the existing tenant sends
 * it: `OU=53,O=Keylime,L=Lexington,ST=MA,CN=<id>,C=US`.
 */
export function subjectText(certificatePem: string): string {
  const parts = new x509.X509Certificate(certificatePem).subjectName.toJSON();
  return parts
    .map((part) =>
      Object.entries(part)
        .flatMap(([type, values]) => values.map((value) => `${type}=${escaped(plain(value))}`))
        .join('+'),
    )
    .reverse()
    .join(',');
}

const plain = (value: string | Record<string, string>): string =>
  typeof value === 'string' ? value : (Object.values(value)[0] ?? '');

const escaped = (value: string): string =>
  value
    .replace(/[\\",+;<>]/g, '\\$&')
    .replaceAll('\0', '\\00')
    .replace(/^[ #]/, '\\$&')
    .replace(/ $/, '\\ ');
