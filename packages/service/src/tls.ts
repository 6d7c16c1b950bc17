import type { X509Certificate } from 'node:crypto';
import type { Server as HttpsServer, ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions, TLSSocket } from 'node:tls';

/** What a server shows and whom it believes. */
export type ServerTls = {
  /** PEM of the server's certificate, with the chain behind it if there is one. */
  readonly certPem: string;
  readonly keyPem: string;
  /** Password of an encrypted key. */
  readonly passphrase?: string | undefined;
  /** PEM of the CAs that issue clients' certificates; the operating system's ones are never asked. */
  readonly clientCaPems: readonly string[];
  /** `true` refuses clients without a certificate in the handshake, as an agent does; otherwise they are anonymous. */
  readonly requireClientCertificate?: boolean | undefined;
  /** See `clientIdentity`. */
  readonly adminNamesWithoutEku?: readonly string[] | undefined;
};

export type ClientIdentity = { readonly kind: 'admin'; readonly name: string } | { readonly kind: 'anonymous' };

export const ANONYMOUS: ClientIdentity = { kind: 'anonymous' };

/** [compat] The common name of the administrator's certificate in the existing services' `cv_ca` folders. */
export const DEFAULT_ADMIN_NAMES_WITHOUT_EKU: readonly string[] = ['client'];

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** Short, because a resumed session repeats a check of the client's certificate that was made when it began. */
const SESSION_TIMEOUT_S = 300;

/**
 * TLS settings of a server: TLS 1.2 or newer, a client certificate is asked for. [MUST] One that is presented and does not
 * verify must end the connection: `refuseUnverifiedClients` does that (spec 01 section 7.3).
 * Throws a `RangeError` without a CA: a server that trusts nobody by mistake cannot be administered.
 */
export function serverTlsOptions(tls: ServerTls): ServerOptions {
  requirePems(tls.clientCaPems, 'CA of client certificates');
  return {
    cert: tls.certPem,
    key: tls.keyPem,
    ...(tls.passphrase ? { passphrase: tls.passphrase } : {}),
    ca: [...tls.clientCaPems],
    minVersion: 'TLSv1.2',
    requestCert: true,
    rejectUnauthorized: tls.requireClientCertificate ?? false,
    sessionTimeout: SESSION_TIMEOUT_S,
  };
}

/** Uses other certificates and CAs from the next connection on; throws, and changes nothing, if they cannot be used. */
export function changeServerTls(server: HttpsServer, tls: ServerTls): void {
  const { cert, key, passphrase, ca, minVersion } = serverTlsOptions(tls);
  const context = { cert, key, ca, minVersion, ...(passphrase && { passphrase }) } as SecureContextOptions;
  createSecureContext(context);
  server.setSecureContext(context);
}

/** Closes every connection of `server` whose client presented a certificate that did not verify, before it can ask. */
export function refuseUnverifiedClients(server: HttpsServer, refused: (reason: string) => void = () => {}): void {
  // First in the row: the HTTP parser must not see the connection.
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    if (socket.authorized || peerCertificate(socket) === undefined) return;
    refused(String(socket.authorizationError));
    socket.destroy();
  });
}

/**
 * Who is at the other end, by the client certificate of the connection: an administrator if the certificate verified
 * against the CAs of client certificates, is good for client authentication and has a common name (the first one counts);
 * otherwise nobody (spec 01 section 3.2).
 *
 * Good for client authentication means that the extended key usage names clientAuth, so that no server's certificate is an
 * administrator's. [compat] The existing services' CA puts no extended key usage into any certificate; such a one is
 * accepted only under a common name of `adminNamesWithoutEku`, by default `client`, the name of the administrator's
 * certificate in an existing `cv_ca` folder. The same CA's server certificate is called `server`, and a certificate in an
 * agent's payload carries the agent's id. Pass an empty list where every certificate has the extension; add the names of
 * administrators for whom `keylime_ca` of the existing services made certificates.
 */
export function clientIdentity(
  socket: Socket,
  adminNamesWithoutEku: readonly string[] = DEFAULT_ADMIN_NAMES_WITHOUT_EKU,
): ClientIdentity {
  if (!(socket instanceof TLSSocket) || socket.authorized !== true) return ANONYMOUS;
  // `authorized` is also true for a TLS 1.3 session that was resumed without any client certificate.
  const certificate = peerCertificate(socket);
  if (certificate === undefined || certificate.ca) return ANONYMOUS;
  const name = firstCommonName(certificate);
  if (name === undefined) return ANONYMOUS;
  const usages: readonly string[] | undefined = certificate.keyUsage;
  const mayAdminister = usages === undefined ? adminNamesWithoutEku.includes(name) : usages.includes(CLIENT_AUTH);
  return mayAdminister ? { kind: 'admin', name } : ANONYMOUS;
}

/** Throws a `RangeError` unless `pems` holds at least one certificate; `what` names them. */
export function requirePems(pems: readonly string[], what: string): void {
  if (!pems.some((pem) => pem.includes('-----BEGIN CERTIFICATE-----'))) {
    throw new RangeError(`There is no ${what}: give at least one certificate in PEM.`);
  }
}

const peerCertificate = (socket: TLSSocket): X509Certificate | undefined => socket.getPeerX509Certificate();

function firstCommonName(certificate: X509Certificate): string | undefined {
  // The parsed form: the text of `subject` would have to be unescaped.
  const names: unknown = certificate.toLegacyObject().subject?.CN;
  const first: unknown = Array.isArray(names) ? names[0] : names;
  return typeof first === 'string' && first !== '' ? first : undefined;
}
