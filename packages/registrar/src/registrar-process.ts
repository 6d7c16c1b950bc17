import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { freePort } from '@keylime/service/free-port';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';

/** The registrar as its operators run it, on free ports of 127.0.0.1 and in a folder of its own. For tests only. */
export type RegistrarProcess = {
  readonly plainPort: number;
  readonly tlsPort: number;
  readonly folder: string;
  /** Issues the server's and the administrators' certificates. */
  readonly ca: TestCa;
  readonly admin: TestIdentity;
  readonly ask: (question: Question) => Promise<Answer>;
  /** What it has written so far. */
  readonly output: () => string;
  readonly kill: (signal: NodeJS.Signals) => Promise<number | null>;
  /** Starts it again on the same folder, ports and database. */
  readonly start: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** `as` asks over TLS: with that client certificate, or with none (`nobody`). Without it the plain port is asked. */
export type Question = {
  readonly method: string;
  readonly path: string;
  readonly json?: unknown;
  readonly body?: string | Buffer;
  readonly as?: TestIdentity | 'nobody';
  readonly headers?: Readonly<Record<string, string>>;
};

export type Answer = {
  readonly code: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly text: string;
  /** The body; an empty object if it is not JSON. */
  readonly json: { readonly [key: string]: Json };
  readonly status: string;
  readonly results: { readonly [key: string]: Json };
};

const PROGRAM = path.join(import.meta.dirname, '..', 'bin', 'keylime_registrar.mjs');

/** Starts such a registrar. `env` adds settings, such as `KEYLIME_REGISTRAR_DATABASE_URL`. */
export async function startRegistrarProcess(env: Readonly<Record<string, string>> = {}): Promise<RegistrarProcess> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-registrar-'));
  const ca = await testCa();
  const server = await ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  const admin = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
  const [plainPort, tlsPort] = [await freePort(), await freePort()];
  const files = { 'server-cert.crt': server.certPem, 'server-private.pem': server.keyPem, 'cacert.crt': ca.certPem };
  await mkdir(path.join(folder, 'pki'));
  for (const [name, text] of Object.entries(files))
    await writeFile(path.join(folder, 'pki', name), text, { mode: 0o600 });
  for (const name of ['registrar.conf', 'tenant.conf', 'logging.conf']) await writeFile(path.join(folder, name), '');

  const settings = {
    PATH: process.env.PATH ?? '',
    KEYLIME_DIR: folder,
    KEYLIME_REGISTRAR_CONFIG: path.join(folder, 'registrar.conf'),
    KEYLIME_TENANT_CONFIG: path.join(folder, 'tenant.conf'),
    KEYLIME_LOGGING_CONFIG: path.join(folder, 'logging.conf'),
    KEYLIME_REGISTRAR_PORT: String(plainPort),
    KEYLIME_REGISTRAR_TLS_PORT: String(tlsPort),
    KEYLIME_REGISTRAR_TLS_DIR: path.join(folder, 'pki'),
    KEYLIME_REGISTRAR_TRUSTED_CLIENT_CA: 'cacert.crt',
    ...env,
  };
  let output = '';
  let child: ChildProcess | undefined;
  const start = async () => {
    const started = spawn(process.execPath, [PROGRAM], { env: settings, stdio: ['ignore', 'pipe', 'pipe'] });
    child = started;
    await new Promise<void>((resolve, reject) => {
      const take = (text: string) => {
        output += text;
        if (text.includes('Listening')) resolve();
      };
      started.stdout?.setEncoding('utf8').on('data', take);
      started.stderr?.setEncoding('utf8').on('data', take);
      started.once('exit', (code) => reject(new Error(`the registrar stopped with ${code}:\n${output}`)));
    });
  };
  const kill = async (signal: NodeJS.Signals) => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return null;
    const exited = once(child, 'exit');
    child.kill(signal);
    const [code] = await exited;
    return typeof code === 'number' ? code : null;
  };
  const stop = async () => {
    await kill('SIGKILL');
    await rm(folder, { recursive: true });
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  const ask = (question: Question) => askAt(question, { plainPort, tlsPort, caPem: ca.certPem });
  return { plainPort, tlsPort, folder, ca, admin, ask, output: () => output, kill, start, stop };
}

/** Sends one request on a connection of its own. */
function askAt(
  { method, path: target, json, body, as, headers = {} }: Question,
  { plainPort, tlsPort, caPem }: { plainPort: number; tlsPort: number; caPem: string },
): Promise<Answer> {
  const payload = json === undefined ? body : JSON.stringify(json);
  const common = {
    host: '127.0.0.1',
    method,
    path: target,
    agent: false,
    headers: {
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(payload === undefined ? {} : { 'content-length': Buffer.byteLength(payload) }),
      ...headers,
    },
  };
  const identity = typeof as === 'object' ? { cert: as.certPem, key: as.keyPem } : {};
  return new Promise((resolve, reject) => {
    const request =
      as === undefined
        ? httpRequest({ ...common, port: plainPort })
        : httpsRequest({ ...common, port: tlsPort, ca: caPem, ...identity });
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const parsed = parseJson(text);
        const answer = isJsonObject(parsed) ? parsed : {};
        resolve({
          code: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: answer,
          status: typeof answer.status === 'string' ? answer.status : '',
          results: isJsonObject(answer.results) ? answer.results : {},
        });
      });
    });
    request.end(payload);
  });
}
