import { createPublicKey, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { derOf, issue, type KeyPair } from './certificates.ts';
import {
  envelope,
  type Lab,
  type Outcome,
  openLab,
  type Respond,
  type Seen,
  type TestServer,
  versions,
} from './lab.ts';
import { type QuoteRequest, quote, rsaKey, type SoftwareTpm, softwareTpm } from './software-tpm.ts';

export const AGENT = 'a1b2c3d4-0000-4000-8000-000000000001';

export type Scene = {
  readonly lab: Lab;
  readonly registrar: TestServer;
  readonly agent: TestServer;
  readonly verifier: TestServer;
  readonly tenant: (argv: readonly string[], settings?: Readonly<Record<string, string>>) => Promise<Outcome>;
  /** Requests to the verifier that would change something. */
  readonly changes: () => readonly Seen[];
};

/** What a scene may do otherwise than a healthy machine. */
export type Twist = {
  /** Fields of the registrar's record. */
  readonly record?: Readonly<Record<string, unknown>>;
  /** Fields of the agent's identity quote. */
  readonly evidence?: Readonly<Record<string, unknown>>;
  readonly quote?: Partial<QuoteRequest>;
  /** Its quotes are by the TPM `quotedBy`. */
  readonly quotedBy?: SoftwareTpm;
  /** Answers of the agent before it is healthy. */
  readonly agentFirst?: readonly ReturnType<Respond>[];
  readonly verifier?: Respond;
  /** What the agent answers to `keys/ukey` and `keys/verify`. */
  readonly keys?: Respond;
  readonly certificates?: { readonly verifier?: KeyPair; readonly registrar?: KeyPair; readonly agent?: KeyPair };
  /** The agent speaks HTTP without TLS. */
  readonly plainAgent?: boolean;
  /** The store of TPM makers' certificates stays empty. */
  readonly emptyStore?: boolean;
};

/** Keys and certificates of one healthy machine; they take a while to make and are never changed. */
export type Machine = {
  readonly tpm: SoftwareTpm;
  readonly ekCa: KeyPair;
  readonly ekCertificate: KeyPair;
  readonly tls: KeyPair;
  readonly transport: string;
  readonly transportKey: KeyObject;
};

const pemOf = (key: KeyObject): string => createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString();

let made: Machine | undefined;

export function machine(): Machine {
  if (made) return made;
  const tpm = softwareTpm();
  const transportKey = rsaKey();
  const ekCa = issue({ commonName: 'TPM maker', ca: true });
  made = {
    tpm,
    ekCa,
    ekCertificate: issue({ commonName: 'EK', issuer: ekCa, key: tpm.ek }),
    tls: issue({ commonName: AGENT, names: 'DNS:localhost,IP:127.0.0.1' }),
    transport: pemOf(transportKey),
    transportKey,
  };
  return made;
}

/** A verifier without agents that takes every one it is given. */
export function emptyVerifier(policies: readonly string[] = []): Respond {
  const enrolled = new Set<string>();
  return ({ method, path: url }) => {
    if (url === '/version') return versions;
    const [, kind, name = ''] = /^\/v2\.6\/(agents|allowlists)\/([^/?]*)/.exec(url) ?? [];
    if (kind === 'allowlists') {
      return policies.includes(name)
        ? envelope(200, 'Success', { name })
        : envelope(404, `Runtime policy ${name} not found`);
    }
    if (method === 'POST') {
      if (enrolled.has(name)) return envelope(409, `Agent of uuid ${name} already exists.`);
      enrolled.add(name);
      return envelope(200, 'Success');
    }
    if (method === 'DELETE')
      return enrolled.delete(name) ? envelope(200, 'Success') : envelope(404, 'agent id not found');
    return enrolled.has(name)
      ? envelope(200, 'Success', { operational_state: 3, v: 'c2VjcmV0', verifier_ip: '127.0.0.1', verifier_port: 1 })
      : envelope(404, 'agent id not found');
  };
}

/** Registrar, agent and verifier on real TLS connections, and a tenant that trusts them. */
export async function openScene(t: TestContext, twist: Twist = {}): Promise<Scene> {
  const lab = openLab(t);
  const { tpm, ekCa, ekCertificate, tls, transport } = machine();
  if (!twist.emptyStore) writeFileSync(path.join(lab.storeDir, 'maker.pem'), ekCa.certificate);
  const certificate = (name: 'verifier' | 'registrar' | 'agent') => {
    const shown = twist.certificates?.[name] ?? (name === 'agent' ? tls : undefined);
    return shown ? { certificate: shown } : {};
  };

  const first = [...(twist.agentFirst ?? [])];
  const agent = await lab.serve(
    (request) => {
      const { path: url } = request;
      if (first.length > 0) return first.shift();
      if (twist.keys && /^\/v2\.6\/keys\//.test(url)) return twist.keys(request);
      if (url === '/version') {
        return envelope(200, 'Success', { supported_version: '2.6', supported_versions: ['2.1', '2.2', '2.5', '2.6'] });
      }
      const nonce = new URL(url, 'https://agent').searchParams.get('nonce') ?? '';
      const text = quote(twist.quotedBy ?? tpm, { nonce, transportKey: transport, ...twist.quote });
      const names = { hash_alg: 'sha256', enc_alg: 'rsa2048', sign_alg: 'rsassa' };
      return envelope(200, 'Success', { quote: text, ...names, pubkey: transport, ...twist.evidence });
    },
    twist.plainAgent ? { plain: true } : certificate('agent'),
  );
  const registrar = await lab.serve(({ path: url }) => {
    if (url === '/version') return versions;
    if (url !== `/v2.6/agents/${AGENT}`) return envelope(404, `Agent with ID '${url}' not found`);
    return envelope(200, 'Success', {
      agent_id: AGENT,
      aik_tpm: tpm.akPublic.toString('base64'),
      ek_tpm: tpm.ekPublic.toString('base64'),
      ekcert: derOf(ekCertificate).toString('base64'),
      mtls_cert: tls.certificate,
      ip: '127.0.0.1',
      port: agent.port,
      regcount: 1,
      ...twist.record,
    });
  }, certificate('registrar'));
  const verifier = await lab.serve(twist.verifier ?? emptyVerifier(), certificate('verifier'));

  return {
    lab,
    registrar,
    agent,
    verifier,
    tenant: (argv, settings) => lab.run(argv, { verifier, registrar }, settings),
    changes: () => verifier.seen.filter(({ method }) => method !== 'GET'),
  };
}
