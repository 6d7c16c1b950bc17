import { randomUUID } from 'node:crypto';
import { nkeys } from '@nats-io/transport-node';

/** What a user may publish and subscribe to; nothing else. */
export type NatsPermissions = { readonly publish: readonly string[]; readonly subscribe: readonly string[] };

/** An operator with one account that uses JetStream, as `nsc` makes them. */
export type NatsOperator = {
  /** For the server's configuration file. */
  readonly serverConfig: string;
  /** Text of a `.creds` file of a new user. */
  readonly credentials: (permissions: NatsPermissions) => string;
};

type Key = ReturnType<typeof nkeys.createUser>;

const base64url = (value: string | Uint8Array): string => Buffer.from(value).toString('base64url');

/** A JWT as NATS has them (NATS Architecture and Design, ADR-14): signed by an NKey, claims of version 2. */
function jwt(issuer: Key, subject: Key, claims: { readonly name: string; readonly nats: object }): string {
  const [iss, sub] = [issuer.getPublicKey(), subject.getPublicKey()];
  const payload = { jti: randomUUID(), iat: Math.floor(Date.now() / 1000), iss, sub, ...claims };
  const signed = `${base64url('{"typ":"JWT","alg":"ed25519-nkey"}')}.${base64url(JSON.stringify(payload))}`;
  return `${signed}.${base64url(issuer.sign(Buffer.from(signed)))}`;
}

const seedOf = (key: Key): string => Buffer.from(key.getSeed()).toString();

/** -1: no limit. */
const NO_LIMITS = { subs: -1, data: -1, payload: -1 };

export function natsOperator(): NatsOperator {
  const [operator, account, system] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()];
  const claimsOf = (limits: object) => ({ limits: { ...NO_LIMITS, ...limits }, type: 'account', version: 2 });
  const connections = { imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const storage = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const operatorClaims = { type: 'operator', version: 2, system_account: system.getPublicKey() };
  const accounts = [
    [system, jwt(operator, system, { name: 'system', nats: claimsOf(connections) })],
    [account, jwt(operator, account, { name: 'keylime', nats: claimsOf({ ...connections, ...storage }) })],
  ] as const;
  return {
    serverConfig: [
      `operator: ${jwt(operator, operator, { name: 'site', nats: operatorClaims })}`,
      'resolver: MEMORY',
      `resolver_preload: { ${accounts.map(([key, text]) => `${key.getPublicKey()}: ${text}`).join(', ')} }`,
    ].join('\n'),
    credentials({ publish, subscribe }) {
      const user = nkeys.createUser();
      const permissions = { pub: { allow: publish }, sub: { allow: subscribe } };
      const text = jwt(account, user, {
        name: 'user',
        nats: { ...permissions, ...NO_LIMITS, type: 'user', version: 2 },
      });
      return (
        `-----BEGIN NATS USER JWT-----\n${text}\n------END NATS USER JWT------\n\n` +
        `-----BEGIN USER NKEY SEED-----\n${seedOf(user)}\n------END USER NKEY SEED------\n`
      );
    },
  };
}

/** A user that a server's configuration knows by the public half of an NKey. */
export function natsUserKey(): { readonly publicKey: string; readonly seed: string } {
  const key = nkeys.createUser();
  return { publicKey: key.getPublicKey(), seed: seedOf(key) };
}
