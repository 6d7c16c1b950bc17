import type { X509Certificate } from 'node:crypto';

/**
 * The subject of a certificate as text (RFC 4514): the last part first, separated by commas, as the existing tenant sends
 * it: `OU=53,O=Keylime,L=Lexington,ST=MA,CN=<id>,C=US`.
 */
export function subjectText({ subject }: X509Certificate): string {
  // Node's text has one part in a line, the first one first, with what RFC 2253 escapes and line ends escaped.
  return subject.split('\n').reverse().join(',').replaceAll(' + ', '+');
}
