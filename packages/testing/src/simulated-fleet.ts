import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { API_VERSIONS } from '@keylime/api/versions';
import { digest } from '@keylime/core/digest';
import { ensureAgentCertificate } from '@keylime/pki/agent-certificate';
import { encodePublic } from '@keylime/tpm/public';
import { SIMULATED_BOOT_AGGREGATE, type SimulatedAgent, simulatedAgent } from './simulated-agent.ts';
import { softwareAk } from './software-ak.ts';

/** What a tenant would send to a verifier to enrol one simulated agent. */
export type FleetMember = {
  readonly id: string;
  readonly ip: string;
  readonly port: number;
  readonly akTpmBase64: string;
  readonly mtlsCert: string;
};

export type FleetOptions = {
  readonly agents: number;
  readonly encryption: 'rsa2048' | 'ecc256';
  /** CA that must have issued the client certificate of who asks. */
  readonly clientCaPem: string;
  /** Entries that each agent measures before each quote. */
  readonly newEntriesPerQuote: number;
  /** How many different files there are to measure. */
  readonly files: number;
};

export type Fleet = {
  readonly members: readonly FleetMember[];
  readonly agent: (index: number) => SimulatedAgent;
  /** Quotes given so far. */
  readonly quotes: () => number;
  readonly stop: () => Promise<void>;
};

const RSA_KEYS = 8;
const CERTIFICATES = 16;
const pathOf = (n: number) => `/usr/lib/fleet/file-${n}`;
const contentOf = (n: number) => Buffer.from(`content of file ${n}`);

/** The runtime policy that simulated agents with so many files fulfil, as JSON text. */
export function fleetRuntimePolicy(count: number): string {
  const files = Array.from({ length: count }, (_, n) => [pathOf(n), [digest('sha256', contentOf(n)).toString('hex')]]);
  return JSON.stringify({
    meta: { version: 1, generator: 3 },
    release: 0,
    digests: { boot_aggregate: [SIMULATED_BOOT_AGGREGATE], ...Object.fromEntries(files) },
    excludes: [],
    keyrings: {},
    ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: null },
    'ima-buf': {},
    'verification-keys': '',
  });
}

/**
 * Starts agents without TPMs on loopback, each on a port of its own, behind mutual TLS with kept-alive connections. RSA keys
 * are shared by several agents, because making them takes long; P-256 keys are one per agent.
 */
export async function startSimulatedFleet(options: FleetOptions): Promise<Fleet> {
  const folder = await mkdtemp(join(tmpdir(), 'fleet-'));
  const identities = await Promise.all(
    Array.from({ length: Math.min(CERTIFICATES, options.agents) }, (_, n) =>
      ensureAgentCertificate({
        certificatePath: join(folder, `${n}.crt`),
        keyPath: join(folder, `${n}.pem`),
        agentId: `fleet-${n}`,
        contactIp: '127.0.0.1',
      }),
    ),
  );
  await rm(folder, { recursive: true });
  const transportKeyPem = generateKeyPairSync('rsa', { modulusLength: 2048 })
    .publicKey.export({ type: 'spki', format: 'pem' })
    .toString();
  const rsaKeys: KeyObject[] = [];
  const servers: Server[] = [];
  const agents: SimulatedAgent[] = [];
  const members: FleetMember[] = [];
  let quotes = 0;
  for (let n = 0; n < options.agents; n++) {
    const identity = identities[n % identities.length];
    if (identity === undefined) throw new RangeError('A fleet has at least one agent.');
    const rsaKey = rsaKeys[n % RSA_KEYS];
    const ak = softwareAk({
      encryption: options.encryption,
      ...(options.encryption === 'rsa2048' && rsaKey !== undefined ? { privateKey: rsaKey } : {}),
    });
    if (options.encryption === 'rsa2048' && rsaKeys.length < RSA_KEYS) rsaKeys.push(ak.privateKey);
    const agent = simulatedAgent({
      ak,
      encAlg: options.encryption,
      signAlg: options.encryption === 'rsa2048' ? 'rsassa' : 'ecdsa',
      transportKeyPem,
    });
    let measured = n;
    const server = createServer(
      {
        cert: identity.certificatePem,
        key: identity.key.export({ type: 'pkcs8', format: 'pem' }),
        ca: options.clientCaPem,
        requestCert: true,
        rejectUnauthorized: true,
        keepAliveTimeout: 600_000,
      },
      (request, response) => {
        const { pathname, searchParams } = new URL(request.url ?? '/', 'https://agent');
        const answer = (status: number, text: string, results: unknown) => {
          const body = Buffer.from(JSON.stringify({ code: status, status: text, results }));
          response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length });
          response.end(body);
        };
        if (pathname === '/version') {
          answer(200, 'Success', { supported_version: '2.6', supported_versions: API_VERSIONS });
        } else if (pathname.endsWith('/quotes/integrity')) {
          for (let i = 0; i < options.newEntriesPerQuote; i++, measured++) {
            agent.measure(pathOf(measured % options.files), contentOf(measured % options.files));
          }
          quotes++;
          const query = {
            nonce: searchParams.get('nonce') ?? '',
            mask: Number.parseInt(searchParams.get('mask') ?? '0', 16),
            partial: searchParams.get('partial') === '1',
            entry: Number(searchParams.get('ima_ml_entry') ?? 0),
          };
          answer(200, 'Success', agent.integrityQuote(query));
        } else {
          answer(404, 'Not Found', {});
        }
      },
    );
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', resolve);
    });
    servers.push(server);
    agents.push(agent);
    members.push({
      id: `fleet-agent-${n}`,
      ip: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
      akTpmBase64: encodePublic(ak.public).toString('base64'),
      mtlsCert: identity.leafPem,
    });
  }
  return {
    members,
    agent: (index) => {
      const agent = agents[index];
      if (agent === undefined) throw new RangeError(`There is no agent ${index}.`);
      return agent;
    },
    quotes: () => quotes,
    stop: async () => {
      await Promise.all(
        servers.map(
          (server) =>
            new Promise<void>((resolve) => {
              server.close(() => resolve());
              server.closeAllConnections();
            }),
        ),
      );
    },
  };
}
