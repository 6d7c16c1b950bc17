import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startTestRegistrar, type TestRegistrar } from '@keylime/agent/test-registrar';
import { pythonJson } from '@keylime/api/python-json';
import { type NewEntry, storedZip } from '@keylime/payload/archive';
import { encryptPayload, IV_BYTES, wrapKeyShare } from '@keylime/payload/encryption';
import { KEY_BYTES, keyAuthTag, splitKey } from '@keylime/payload/key-split';
import { signRevocation } from '@keylime/payload/revocation-signature';
import { DEFAULT_CA_OPTIONS } from '@keylime/pki/ca-options';
import { issueCaCertificate } from '@keylime/pki/issue';
import { freePort } from '@keylime/service/free-port';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { startTpmMultiplexer } from '@keylime/software-tpm/tpm-multiplexer';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';

export const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';

export type Answer = { readonly code: number; readonly status: string; readonly results: unknown };

/** What a tenant makes of a payload: the two bodies that the agent gets. They can be sent again and again. */
export type Delivery = {
  readonly k: Buffer;
  /** What the tenant gives to the verifier. */
  readonly v: Buffer;
  readonly ukey: { readonly encrypted_key: string; readonly auth_tag: string; readonly payload?: string };
  readonly vkey: { readonly encrypted_key: string };
};

export type Revocation = { readonly msg: string; readonly signature: string };

/** The agent as a process on a software TPM, its CA, its registrar, and whoever signs revocations for it. */
export type AttackedAgent = {
  readonly home: string;
  /** Of its clients. */
  readonly ca: TestCa;
  readonly port: number;
  /** The certificate with which questions are asked. */
  readonly verifier: TestIdentity;
  /** Its TPM, for others than the agent. */
  readonly tcti: string;
  /** Switches the TPM off and on; nobody may use it. */
  readonly restartTpm: () => Promise<void>;
  /** What it registered last. */
  readonly registered: () => { readonly ak_tpm: string; readonly mtls_cert: string };
  /** Folder of the payload that counts. */
  readonly unzipped: string;
  readonly start: (
    settings?: Readonly<Record<string, string | number | boolean>>,
    env?: Readonly<Record<string, string>>,
  ) => Promise<void>;
  readonly stop: () => Promise<void>;
  /** SIGKILL. */
  readonly kill: () => Promise<void>;
  readonly post: (path: string, body: unknown, as?: TestIdentity | 'nobody') => Promise<Answer>;
  readonly get: (path: string) => Promise<Answer>;
  readonly delivery: (files: Readonly<Record<string, string>> | Buffer, changes?: DeliveryChanges) => Promise<Delivery>;
  /** Sends U, then V. */
  readonly deliver: (delivery: Delivery) => Promise<void>;
  /** The certificate that a payload brings for `revocation`. */
  readonly notifierCertificate: string;
  readonly revocation: (changes?: Readonly<Record<string, string>>, key?: KeyObject) => Revocation;
  readonly revoke: (message: Revocation) => Promise<Answer>;
  /** Resolves when the log has said so this many times since the last start. */
  readonly said: (pattern: RegExp, times?: number) => Promise<void>;
  readonly log: () => string;
  readonly stranger: TestIdentity;
};

export type DeliveryChanges = {
  readonly agentId?: string;
  /** Encrypts U and V for this key instead of the agent's. */
  readonly payloadKey?: KeyObject;
  /** Encrypts the payload under another key than the one that U and V give. */
  readonly encryptUnder?: Buffer;
};

const PROGRAM = fileURLToPath(new URL('../../packages/agent/bin/keylime_agent.mjs', import.meta.url));

/** Starts nothing yet but the TPM and the registrar; `base` is on a tmpfs unless the test wants the agent to mount one. */
export async function openAttackedAgent(t: TestContext, base = '/dev/shm'): Promise<AttackedAgent> {
  const home = mkdtempSync(path.join(base, 'keylime-attacked-'));
  const tpm: Swtpm = await startSwtpm({ certificates: false });
  const share = (port: number) => startTpmMultiplexer({ swtpm: { host: '127.0.0.1', port: tpm.port }, port });
  let shared = await share(0);
  const tcti = `swtpm:host=${shared.host},port=${shared.port}`;
  const registrar: TestRegistrar = await startTestRegistrar();
  const ca: TestCa = await testCa();
  const verifier = await ca.issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
  const stranger = await (await testCa('Other CA')).issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
  const notifierKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const notifierCertificate = (await issueCaCertificate(notifierKey, DEFAULT_CA_OPTIONS, new Date())).toString('pem');
  mkdirSync(path.join(home, 'cv_ca'));
  mkdirSync(path.join(home, 'installed'));
  writeFileSync(path.join(home, 'cv_ca', 'cacert.crt'), ca.certPem);

  const port = await freePort();
  let child: ChildProcess | undefined;
  let output = '';
  const waiting = new Set<() => void>();

  async function start(...[settings, more]: Parameters<AttackedAgent['start']>): Promise<void> {
    const options = {
      ...{ uuid: AGENT_ID, port, registrar_port: registrar.port, run_as: '' },
      ...{ revocation_actions_dir: path.join(home, 'installed'), ...settings },
    };
    const toml = Object.entries(options).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
    const file = path.join(home, 'agent.conf');
    writeFileSync(file, `[agent]\n${toml.join('\n')}\n`);
    const env = { PATH: process.env.PATH, TCTI: tcti, KEYLIME_DIR: home, KEYLIME_AGENT_CONFIG: file, ...more };
    output = '';
    child = spawn(process.execPath, [PROGRAM], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        output += chunk;
        for (const look of waiting) look();
      });
    }
    const ended = once(child, 'close').then(() => assert.fail(`the agent ended: ${output}`));
    ended.catch(() => {});
    await Promise.race([said(/Listening on https:|Attesting to https:/), ended]);
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, 'close');
    child.kill(signal);
    await closed;
  }

  const said = (pattern: RegExp, times = 1) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (output.split('\n').filter((line) => pattern.test(line)).length < times) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });

  const ask = (method: string, url: string, body: unknown, as: TestIdentity | 'nobody'): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const identity = as === 'nobody' ? {} : { cert: as.certPem, key: as.keyPem };
      const headers = text === undefined ? {} : { 'content-type': 'application/json' };
      const call = request(
        { host: '127.0.0.1', port, method, path: url, agent: false, rejectUnauthorized: false, headers, ...identity },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk) => chunks.push(chunk)).on('error', reject);
          answer.on('end', () => resolve(JSON.parse(Buffer.concat(chunks).toString()) as Answer));
        },
      );
      call.on('error', reject);
      call.end(text);
    });
  const post: AttackedAgent['post'] = (url, body, as = verifier) => ask('POST', url, body, as);
  const get: AttackedAgent['get'] = (url) => ask('GET', url, undefined, verifier);

  async function restartTpm(): Promise<void> {
    await shared.close();
    await tpm.kill();
    await tpm.restart();
    shared = await share(shared.port);
  }

  let events = 0;
  const one: AttackedAgent = {
    ...{ ca, port, tcti, verifier },
    restartTpm,
    registered() {
      const body = registrar.registered.at(-1)?.body ?? assert.fail('the agent did not register');
      return { ak_tpm: body.aik_tpm, mtls_cert: body.mtls_cert ?? assert.fail('no certificate') };
    },
    ...{ home, unzipped: path.join(home, 'secure', 'unzipped'), start, post, get, said, notifierCertificate, stranger },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    log: () => output,
    async delivery(files, { agentId = AGENT_ID, payloadKey, encryptUnder } = {}) {
      const results = (await get('/v2.6/keys/pubkey')).results as { readonly pubkey: string };
      const key = payloadKey ?? createPublicKey(results.pubkey);
      const { k, u, v } = splitKey(randomBytes(KEY_BYTES), randomBytes(KEY_BYTES));
      const entries = (): NewEntry[] =>
        Object.entries(files).map(([name, content]) => ({ name, content: Buffer.from(content) }));
      const plaintext = Buffer.isBuffer(files) ? files : await storedZip(entries(), new Date());
      return {
        k,
        v,
        ukey: {
          encrypted_key: wrapKeyShare(key, u).toString('base64'),
          auth_tag: keyAuthTag(k, agentId).toString('hex'),
          payload: encryptPayload(encryptUnder ?? k, plaintext, randomBytes(IV_BYTES)).toString('base64'),
        },
        vkey: { encrypted_key: wrapKeyShare(key, v).toString('base64') },
      };
    },
    async deliver({ ukey, vkey }) {
      assert.equal((await post('/v2.6/keys/ukey', ukey)).code, 200);
      assert.equal((await post('/v2.6/keys/vkey', vkey)).code, 200);
    },
    revocation(changes = {}, key = notifierKey) {
      const at = new Date(Date.now() + events++).toISOString();
      const msg = pythonJson({
        ...{ type: 'revocation', ip: '10.1.2.3', agent_id: 'peer', port: 9002, meta_data: '{}' },
        ...{ event_time: 'Tue Aug  4 10:15:03 2026', event_time_utc: at, notification_id: randomUUID(), ...changes },
      });
      return { msg, signature: signRevocation(key, msg) };
    },
    revoke: (message) => post('/v2.6/notifications/revocation', message),
  };
  t.after(async () => {
    await one.kill();
    await registrar.close();
    await shared.close();
    await tpm.stop();
    const secure = path.join(home, 'secure');
    if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${secure} `)) execFileSync('umount', [secure]);
    if (existsSync(home)) rmSync(home, { recursive: true });
  });
  return one;
}
