import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { run } from '../run.ts';
import { issue, type KeyPair } from './certificates.ts';

/** One request as a server saw it. */
export type Seen = { readonly method: string; readonly path: string; readonly body: string };

/** What a server answers; `undefined` destroys the connection. */
export type Respond = (request: Seen) => { readonly status: number; readonly body: unknown } | undefined;

export type TestServer = { readonly port: number; readonly seen: Seen[] };

export type Outcome = {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Lines of stdout that are no log lines. */
  readonly data: readonly string[];
  /** `LEVEL - text` of the log lines. */
  readonly messages: readonly string[];
};

export type Lab = {
  readonly workDir: string;
  /** CA of the servers and of the tenant's certificate, as a verifier would make it. */
  readonly ca: KeyPair;
  readonly storeDir: string;
  readonly serve: (
    respond: Respond,
    options?: { readonly certificate?: KeyPair; readonly plain?: boolean },
  ) => Promise<TestServer>;
  /** Runs a command line in this process. `settings` are options of tenant.conf. */
  readonly run: (
    argv: readonly string[],
    servers?: { readonly verifier?: TestServer; readonly registrar?: TestServer },
    settings?: Readonly<Record<string, string>>,
    env?: Readonly<Record<string, string>>,
    askPassword?: (question: string) => Promise<string>,
  ) => Promise<Outcome>;
};

const LOG_LINE = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} - keylime\.tenant - (.*)$/;

let shared: { readonly ca: KeyPair; readonly client: KeyPair; readonly server: KeyPair } | undefined;

function certificates() {
  const ca = shared?.ca ?? issue({ commonName: 'Keylime Certificate Authority', ca: true });
  shared ??= {
    ca,
    client: issue({ commonName: 'client', issuer: ca, names: 'DNS:client', usage: 'clientAuth' }),
    server: issue({ commonName: 'server', issuer: ca, names: 'DNS:localhost,IP:127.0.0.1', usage: 'serverAuth' }),
  };
  return shared;
}

const noPassword = async (): Promise<string> => {
  throw new Error('nobody is there to be asked for a password');
};

/** A work directory with a `cv_ca` folder, HTTPS servers that ask for a client certificate, and a tenant. */
export function openLab(t: TestContext): Lab {
  const workDir = mkdtempSync(path.join(tmpdir(), 'keylime-tenant-lab-'));
  t.after(() => rmSync(workDir, { recursive: true, force: true }));
  const { ca, client, server } = certificates();
  const storeDir = path.join(workDir, 'tpm_cert_store');
  mkdirSync(path.join(workDir, 'cv_ca'));
  mkdirSync(storeDir);
  writeFileSync(path.join(workDir, 'cv_ca', 'cacert.crt'), ca.certificate);
  writeFileSync(path.join(workDir, 'cv_ca', 'client-cert.crt'), client.certificate);
  writeFileSync(path.join(workDir, 'cv_ca', 'client-private.pem'), client.key);

  return {
    workDir,
    ca,
    storeDir,
    async serve(respond, options = {}) {
      const seen: Seen[] = [];
      const listener: RequestListener = (request, response) => {
        const parts: Buffer[] = [];
        request.on('data', (part: Buffer) => parts.push(part));
        request.on('end', () => {
          const one = { method: request.method ?? '', path: request.url ?? '', body: Buffer.concat(parts).toString() };
          seen.push(one);
          const answer = respond(one);
          if (answer === undefined) return request.socket.destroy();
          response.statusCode = answer.status;
          response.setHeader('content-type', 'application/json');
          return response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
        });
      };
      const shown = options.certificate ?? server;
      const tls = {
        key: shown.key,
        cert: shown.certificate,
        ca: ca.certificate,
        requestCert: true,
        rejectUnauthorized: true,
      };
      const listening = options.plain ? createHttpServer(listener) : createServer(tls, listener);
      await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
      t.after(
        () =>
          new Promise<void>((resolve) => {
            listening.close(() => resolve());
            listening.closeAllConnections();
          }),
      );
      return { port: (listening.address() as AddressInfo).port, seen };
    },
    async run(argv, servers = {}, settings = {}, env = {}, askPassword = noPassword) {
      const configured: Record<string, string> = {
        verifier_port: String(servers.verifier?.port ?? 1),
        registrar_port: String(servers.registrar?.port ?? 1),
        tpm_cert_store: storeDir,
        retry_interval: '0',
        exponential_backoff: 'False',
        max_retries: '3',
        ...settings,
      };
      const file = path.join(workDir, 'tenant.conf');
      const lines = Object.entries(configured).map(([name, value]) => `${name} = ${value}`);
      writeFileSync(file, ['[tenant]', ...lines].join('\n'));
      const [stdout, stderr]: [string[], string[]] = [[], []];
      const code = await run(argv, {
        source: {
          env: { PATH: process.env.PATH, KEYLIME_DIR: workDir, KEYLIME_TENANT_CONFIG: file, ...env },
          roots: { etc: workDir, usrEtc: workDir },
        },
        stdout: { write: (text) => stdout.push(text) },
        stderr: { write: (text) => stderr.push(text) },
        version: '0.0.0-test',
        askPassword,
      });
      const text = stdout.join('');
      const all = text.split('\n').slice(0, -1);
      return {
        code,
        stdout: text,
        stderr: stderr.join(''),
        data: all.filter((line) => !LOG_LINE.test(line)),
        messages: all.flatMap((line) => LOG_LINE.exec(line)?.[1] ?? []),
      };
    },
  };
}

/** An answer in the envelope of the API. */
export const envelope = (code: number, status: string, results: unknown = {}) => ({
  status: code,
  body: { code, status, results },
});

/** `GET /version` of registrar and verifier. */
export const versions = envelope(200, 'Success', {
  current_version: '2.6',
  supported_versions: ['2.0', '2.5', '2.6', '3.0'],
});
