import { X509Certificate } from 'node:crypto';

/** The common name (or else the whole subject) of a certificate in DER; `undefined` where there is none. */
export function certificateName(der: Uint8Array): string | undefined {
  try {
    const { subject } = new X509Certificate(der);
    return /^CN=(.*)$/m.exec(subject)?.[1] ?? subject.replaceAll('\n', ', ');
  } catch {
    return undefined;
  }
}
