import { execFileSync } from 'node:child_process';
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A certificate and its private key, both PEM. */
export type KeyPair = { readonly certificate: string; readonly key: string };

export type CertificateRequest = {
  readonly commonName: string;
  readonly issuer?: KeyPair;
  /** A CA, or a leaf. */
  readonly ca?: boolean;
  /** Its own key instead of a new P-256 one. */
  readonly key?: KeyObject;
  /** `subjectAltName` of OpenSSL, such as `DNS:localhost,IP:127.0.0.1`. */
  readonly names?: string;
  /** `extendedKeyUsage` of OpenSSL, such as `serverAuth`. */
  readonly usage?: string;
};

/** A certificate for tests, made by the `openssl` program: another hand than the X.509 code that is tested. */
export function issue(request: CertificateRequest): KeyPair {
  const folder = mkdtempSync(join(tmpdir(), 'keylime-tenant-certificate-'));
  const path = (name: string) => join(folder, name);
  const openssl = (...args: readonly string[]) =>
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  try {
    if (request.key) writeFileSync(path('key'), request.key.export({ format: 'pem', type: 'pkcs8' }));
    else openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', path('key'));
    const extensions = [
      `basicConstraints=critical,CA:${request.ca ? 'TRUE' : 'FALSE'}`,
      ...(request.ca ? ['keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash'] : []),
      ...(request.names ? [`subjectAltName=${request.names}`] : []),
      ...(request.usage ? [`extendedKeyUsage=${request.usage}`] : []),
    ];
    writeFileSync(path('extensions'), extensions.join('\n'));
    openssl('req', '-new', '-key', path('key'), '-subj', `/CN=${request.commonName}`, '-out', path('request'));
    const { issuer } = request;
    if (issuer) {
      writeFileSync(path('ca'), issuer.certificate);
      writeFileSync(path('ca-key'), issuer.key);
    }
    const signer = issuer
      ? ['-CA', path('ca'), '-CAkey', path('ca-key'), '-CAcreateserial']
      : ['-signkey', path('key')];
    const fixed = ['x509', '-req', '-sha256', '-days', '30', '-in', path('request'), '-out', path('certificate')];
    openssl(...fixed, '-extfile', path('extensions'), ...signer);
    return { certificate: readFileSync(path('certificate'), 'utf8'), key: readFileSync(path('key'), 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const derOf = (pair: KeyPair): Buffer => new X509Certificate(pair.certificate).raw;

export const keyOf = (pair: KeyPair): KeyObject => createPrivateKey(pair.key);
