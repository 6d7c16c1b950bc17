import { constants, createPublicKey, generateKeyPairSync, type KeyObject, privateDecrypt } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { AGENT_API_VERSIONS } from '@keylime/api/versions';
import { encodePublic } from '@keylime/tpm/public';
import { type QuoteLies, type QuoteQuery, type SimulatedAgent, simulatedAgent } from './simulated-agent.ts';
import { type SoftwareAk, type SoftwareAkOptions, softwareAk } from './software-ak.ts';
import { type TestIdentity, testAgentIdentity } from './test-certificates.ts';

/** One small change of what a truthful agent does. */
export type Lies = QuoteLies & {
  /** What was asked, as the agent chooses to understand it. */
  readonly query?: (asked: QuoteQuery) => QuoteQuery;
  /** Answers any request by itself; `truth` is the body that a truthful agent would send. */
  readonly respond?: (request: IncomingMessage, response: ServerResponse, truth: () => Buffer) => unknown;
};

/** An enrolled machine in the hands of an attacker: it has the agent's TLS key and may have its TPM sign quotes. */
export type LyingAgent = {
  readonly id: string;
  readonly port: number;
  readonly ak: SoftwareAk;
  readonly machine: SimulatedAgent;
  /** What it registered; it may show another one (`shows`). */
  readonly identity: TestIdentity;
  readonly transportKeyPem: string;
  /** What a tenant takes from the registrar to enrol it. */
  readonly registered: { readonly ak_tpm: string; readonly mtls_cert: string };
  /** Lies from the next request on; without an argument it is truthful again. */
  readonly lie: (lies?: Lies) => void;
  /** Shows this certificate in new connections, and ends those that are open. */
  readonly show: (identity: TestIdentity) => void;
  /** Every request for a quote so far. */
  readonly asked: readonly QuoteQuery[];
  /** How many of them were answered with nothing but the truth. */
  readonly truthful: () => number;
  /** The revocations that were posted to it and that it answered with 200, in the order in which they came. */
  readonly told: readonly { readonly msg: string; readonly signature: string }[];
  /** The key shares that were posted to it, decrypted with its transport key. */
  readonly shares: readonly Buffer[];
  readonly stop: () => Promise<void>;
};

export type LyingAgentOptions = SoftwareAkOptions & {
  readonly id: string;
  /** The CA of the verifier's client certificate. */
  readonly clientCaPem: string;
  /** The certificate that it shows instead of the one it registered. */
  readonly shows?: TestIdentity;
};

const quoteQuery = (parameters: URLSearchParams): QuoteQuery => ({
  nonce: parameters.get('nonce') ?? '',
  mask: Number.parseInt(parameters.get('mask') ?? '0', 16),
  partial: parameters.get('partial') === '1',
  entry: Number(parameters.get('ima_ml_entry') ?? 0),
});

/** Shared by all: an RSA key takes long to make. */
let sharedTransportKey: KeyObject | undefined;

/** Starts such an agent on a free port of 127.0.0.1, truthful at first. Its AK is on P-256 unless said otherwise. */
export async function startLyingAgent(options: LyingAgentOptions): Promise<LyingAgent> {
  const { id, clientCaPem, encryption = 'ecc256' } = options;
  const ak = softwareAk({ ...options, encryption });
  // It outlives the clocks that tests set forward.
  const identity = await testAgentIdentity(id, { notAfter: new Date(Date.now() + 90 * 86_400_000) });
  sharedTransportKey ??= generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const transportKey = sharedTransportKey;
  const transportKeyPem = createPublicKey(transportKey).export({ type: 'spki', format: 'pem' }).toString();
  const signAlg = options.signing ?? (encryption.startsWith('ecc') ? 'ecdsa' : 'rsassa');
  const machine = simulatedAgent({ ak, encAlg: encryption, signAlg, transportKeyPem });
  const asked: QuoteQuery[] = [];
  const shares: Buffer[] = [];
  const told: { readonly msg: string; readonly signature: string }[] = [];
  let lies: Lies | undefined;
  let truthful = 0;

  function answer(request: IncomingMessage): { readonly code: number; readonly status: string; results: unknown } {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://agent');
    if (pathname === '/version') {
      const results = { supported_version: '2.6', supported_versions: AGENT_API_VERSIONS };
      return { code: 200, status: 'Success', results };
    }
    const isPost = pathname.endsWith('/keys/vkey') || pathname.endsWith('/notifications/revocation');
    if (isPost) return { code: 200, status: 'Success', results: null };
    if (!pathname.endsWith('/quotes/integrity')) return { code: 404, status: 'Not Found', results: {} };
    const query = quoteQuery(searchParams);
    return { code: 200, status: 'Success', results: machine.integrityQuote(lies?.query?.(query) ?? query, lies) };
  }

  const shown = options.shows ?? identity;
  const server = createServer(
    { cert: shown.certPem, key: shown.keyPem, ca: clientCaPem, requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'https://agent');
      if (pathname.endsWith('/quotes/integrity')) {
        asked.push(quoteQuery(searchParams));
        if (lies === undefined) truthful++;
      }
      if (pathname.endsWith('/keys/vkey')) {
        const decrypt = (bytes: Buffer) =>
          privateDecrypt({ key: transportKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1' }, bytes);
        json(request).then((body) => {
          const { encrypted_key: text } = body as { encrypted_key?: unknown };
          shares.push(decrypt(Buffer.from(String(text), 'base64')));
        });
      }
      const truth = () => Buffer.from(JSON.stringify(answer(request)));
      if (lies?.respond !== undefined) return void lies.respond(request, response, truth);
      if (pathname.endsWith('/notifications/revocation')) {
        json(request).then((body) => told.push(body as { msg: string; signature: string }));
      }
      const { code, ...rest } = answer(request);
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify({ code, ...rest }));
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    id,
    port: (server.address() as AddressInfo).port,
    ak,
    machine,
    identity,
    transportKeyPem,
    registered: { ak_tpm: encodePublic(ak.public).toString('base64'), mtls_cert: identity.certPem },
    lie: (next) => {
      lies = next;
    },
    show: (next) => {
      server.setSecureContext({ cert: next.certPem, key: next.keyPem, ca: clientCaPem });
      server.closeAllConnections();
    },
    asked,
    truthful: () => truthful,
    told,
    shares,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
