import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { documentOf, problemDocument, resource, sessionProblemDocument } from '@keylime/api/push-document';
import { SECONDS_TO_NEXT } from '@keylime/api/push-evidence';
import type { RequestedEvidence } from '@keylime/api/push-parameters';
import { sessionAttributes } from '@keylime/api/push-session';
import type { Json } from '@keylime/core/json';
import type { TestIdentity } from '@keylime/testing/test-certificates';
import { verifyCertify } from '@keylime/tpm/certify';
import { objectName, type TpmtPublic } from '@keylime/tpm/public';

/** What an agent asked, and what it was told. */
export type Exchange = {
  /** Such as `POST attestations`: method and kind of resource. */
  readonly what: 'POST sessions' | 'PATCH sessions' | 'POST attestations' | 'PATCH attestations';
  readonly path: string;
  readonly body: { readonly [member: string]: Json } & {
    readonly data: { readonly type: string; readonly attributes: { readonly [name: string]: Json } };
  };
  readonly contentType: string | undefined;
  readonly token: string | undefined;
  readonly hasClientCertificate: boolean;
  readonly status: number;
};

type Asked = Omit<Exchange, 'status'>;

type Answer = {
  readonly status: number;
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
};

export type TestVerifier = {
  readonly port: number;
  readonly url: string;
  readonly exchanges: readonly Exchange[];
  /** Answers to give instead of the right ones, each once, by what was asked. */
  readonly instead: { readonly what: Exchange['what']; readonly answer: (asked: Asked) => Answer }[];
  /** What is asked for; the challenge is put in. */
  wanted: readonly RequestedEvidence[];
  secondsToNext: number;
  /** The AK of the agent; nobody is enrolled without. */
  enrolled: TpmtPublic | undefined;
  /** Challenge of the last attestation. */
  readonly challenge: () => Buffer;
  /** Forgets all sessions, as a verifier does that was away for long. */
  readonly endSessions: () => void;
  /** Resolves with the next exchange of this kind. */
  readonly next: (what: Exchange['what'], status?: number) => Promise<Exchange>;
  readonly close: () => Promise<void>;
};

/** A verifier for push agents: sessions are real, evidence is kept and not judged. */
export async function startTestVerifier(
  tls: TestIdentity,
  { port = 0, clientCaPem }: { readonly port?: number; readonly clientCaPem?: string } = {},
): Promise<TestVerifier> {
  const exchanges: Exchange[] = [];
  const instead: TestVerifier['instead'] = [];
  const waiting = new Set<(exchange: Exchange) => void>();
  const pending = new Map<string, Buffer>();
  const tokens = new Set<string>();
  let challenge = Buffer.alloc(0);
  let attestations = 0;

  const answer = ({ what, path, body, token }: Asked): Answer => {
    const { attributes } = body.data;
    const agentId = path.split('/')[3] ?? String(attributes.agent_id);
    if (what === 'POST sessions') {
      const id = randomUUID();
      const nonce = randomBytes(16);
      pending.set(id, nonce);
      const times = { createdAtMs: Date.now(), challengeExpiresAtMs: Date.now() + 60_000 };
      return { status: 200, body: documentOf(resource('session', id, sessionAttributes(agentId, nonce, times))) };
    }
    if (what === 'PATCH sessions') {
      const id = path.split('/').at(-1) ?? '';
      const isProved = verifier.enrolled !== undefined && proves(attributes, pending.get(id), verifier.enrolled);
      const granted = `${id}.${randomBytes(32).toString('base64url')}`;
      if (isProved) tokens.add(granted);
      const outcome = isProved ? { evaluation: 'pass', token: granted } : { evaluation: 'fail' };
      const proved = resource('session', id, { agent_id: String(attributes.agent_id), ...outcome });
      return { status: isProved || verifier.enrolled === undefined ? 200 : 401, body: documentOf(proved) };
    }
    if (token === undefined || !tokens.has(token)) {
      return { status: 401, body: sessionProblemDocument(401, 'Invalid authentication token') };
    }
    if (what === 'POST attestations') {
      challenge = randomBytes(20);
      const self = `${path}/${attestations++}`;
      const evidence = verifier.wanted.map((one) =>
        one.evidence_type === 'tpm_quote'
          ? { ...one, chosen_parameters: { ...one.chosen_parameters, challenge: challenge.toString('base64') } }
          : one,
      );
      const chosen = { stage: 'awaiting_evidence', evidence_requested: evidence };
      const headers = { location: self };
      return { status: 201, headers, body: documentOf(resource('attestation', '0', chosen, self), { self: path }) };
    }
    if (body.data.type !== 'attestation') {
      return {
        status: 400,
        body: problemDocument({ status: 400, code: 'invalid_request', detail: 'no attestation' }),
      };
    }
    const taken = resource('attestation', '0', { stage: 'evaluating_evidence', evidence: [] });
    return { status: 202, body: documentOf(taken, { meta: { [SECONDS_TO_NEXT]: verifier.secondsToNext } }) };
  };

  const server = createServer({
    cert: tls.certPem,
    key: tls.keyPem,
    requestCert: true,
    rejectUnauthorized: false,
    ...(clientCaPem !== undefined && { ca: [clientCaPem] }),
  });
  server.on('request', async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const path = request.url ?? '';
    const kind = path.startsWith('/v3.0/sessions') ? 'sessions' : 'attestations';
    const asked = {
      what: `${request.method} ${kind}` as Exchange['what'],
      path,
      body: JSON.parse(Buffer.concat(chunks).toString()) as Exchange['body'],
      contentType: request.headers['content-type'],
      token: request.headers.authorization?.replace(/^Bearer /, ''),
      hasClientCertificate: (request.socket as TLSSocket).getPeerX509Certificate() !== undefined,
    };
    const other = instead.findIndex(({ what }) => what === asked.what);
    const { status, body, headers } = (instead.splice(other, other < 0 ? 0 : 1)[0]?.answer ?? answer)(asked);
    response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8', ...headers });
    response.end(body === undefined ? '' : JSON.stringify(body));
    const exchange = { ...asked, status };
    exchanges.push(exchange);
    for (const tell of waiting) tell(exchange);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const listensOn = (server.address() as AddressInfo).port;

  const verifier: TestVerifier = {
    port: listensOn,
    url: `https://127.0.0.1:${listensOn}`,
    exchanges,
    instead,
    wanted: [],
    secondsToNext: 0,
    enrolled: undefined,
    challenge: () => challenge,
    endSessions: () => tokens.clear(),
    next: (what, status) =>
      new Promise((resolve) => {
        const tell = (exchange: Exchange) => {
          if (exchange.what !== what || (status !== undefined && exchange.status !== status)) return;
          waiting.delete(tell);
          resolve(exchange);
        };
        waiting.add(tell);
      }),
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return verifier;
}

/** Whether the AK says, for this challenge, that it is in the TPM. */
function proves(attributes: Exchange['body']['data']['attributes'], nonce: Buffer | undefined, ak: TpmtPublic) {
  const [first] = attributes.authentication_provided as { data: { message: string; signature: string } }[];
  if (first === undefined || nonce === undefined) return false;
  const [attest, signature] = [first.data.message, first.data.signature].map((text) => Buffer.from(text, 'base64'));
  if (attest === undefined || signature === undefined) return false;
  return verifyCertify({ attest, signature, signer: ak, qualifyingData: [nonce], certifiedName: objectName(ak) }).ok;
}
