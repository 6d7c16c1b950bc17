import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { CodedError } from '@keylime/core/coded-error';
import {
  type Authenticator,
  connect,
  credsAuthenticator,
  type NatsConnection,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node';
import type { ClientCertificate } from './http-client.ts';
import type { NatsLogin } from './nats-login.ts';

export type NatsSettings = {
  /** `nats://HOST:PORT` or `tls://HOST:PORT`, of one cluster; they are tried in this order. */
  readonly servers: readonly string[];
  /** Who connects, as the server's monitoring shows it. */
  readonly name: string;
  /** `undefined` for servers that let everybody in, or know a client by its certificate. */
  readonly login: NatsLogin | undefined;
  /** For `tls://` servers. */
  readonly tls: NatsTls;
};

/** The PEM of the CAs that are believed, and the certificate that is shown. */
export type NatsTls = {
  readonly trustedCas: readonly string[];
  readonly certificate?: ClientCertificate;
};

export class NatsLoginError extends CodedError<'nats_credentials_unusable'> {}

const CONNECT_MS = 5_000;
/** Two questions in a row without an answer end the connection. */
const PING_MS = 20_000;

/**
 * Connects to the first server that can be reached; the connection is not repaired when it ends. [MUST] A `tls://` server
 * that speaks no TLS, has a certificate of another CA or for another name is refused before anything is said.
 * @throws NatsLoginError; otherwise what the last server answered
 */
export async function connectNats(settings: NatsSettings): Promise<NatsConnection> {
  let problem: unknown;
  for (const server of settings.servers) {
    try {
      return await connect(connectionOptions(server, settings));
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}

function connectionOptions(server: string, { name, login, tls }: NatsSettings) {
  const common = {
    servers: server,
    name,
    timeout: CONNECT_MS,
    reconnect: false,
    pingInterval: PING_MS,
    maxPingOut: 2,
    ...(login && { authenticator: authenticatorOf(login) }),
  };
  if (!server.startsWith('tls:')) return common;
  const host = new URL(server).hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    ...common,
    tls: {
      ca: tls.trustedCas.join('\n'),
      ...(tls.certificate && {
        cert: tls.certificate.certPem,
        key: tls.certificate.keyPem,
        passphrase: tls.certificate.passphrase,
      }),
      // The library would compare the certificate with `localhost` where the server is named by its address.
      checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
    },
  };
}

/** Seed of a user's NKey, alone or in the frame that tools put around it. */
const SEED = /^SU[A-Z2-7]{56}$/m;

/** @throws NatsLoginError for a text that holds no credentials */
function authenticatorOf(login: NatsLogin): Authenticator {
  switch (login.kind) {
    case 'password':
      return usernamePasswordAuthenticator(login.user, login.password);
    case 'token':
      return tokenAuthenticator(login.token);
    case 'credentials': {
      if (login.text.includes('BEGIN NATS USER JWT')) return credsAuthenticator(Buffer.from(login.text));
      const [seed] = SEED.exec(login.text.replaceAll('\r', '')) ?? [];
      if (seed !== undefined) return nkeyAuthenticator(Buffer.from(seed));
      throw new NatsLoginError(
        'nats_credentials_unusable',
        'the file of NATS credentials holds neither a user JWT with its seed (.creds) nor the seed of a user NKey (SU…)',
      );
    }
  }
}
