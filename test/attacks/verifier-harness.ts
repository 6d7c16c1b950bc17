import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent as ConnectionPool, request as httpsRequest } from 'node:https';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { digest } from '@keylime/core/digest';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { loadCaConfig, loadVerifierConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { revocationOptions } from '@keylime/service/options/verifier';
import { type LyingAgent, type LyingAgentOptions, startLyingAgent } from '@keylime/testing/lying-agent';
import { SIMULATED_BOOT_AGGREGATE } from '@keylime/testing/simulated-agent';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';
import { type RunningVerifier, type StartOptions, startVerifier } from '@keylime/verifier/start';

/** A verifier with the agents that attack it. Everything it says is asked for over its own API. */
export type AttackedVerifier = {
  readonly folder: string;
  /** Issues the server's, the verifier's and the administrators' certificates. */
  readonly ca: TestCa;
  readonly admin: TestIdentity;
  readonly port: () => number;
  readonly ask: (question: Question) => Promise<Answer>;
  /** Starts an agent of this name; it is not enrolled. */
  readonly agent: (id: string, options?: Partial<LyingAgentOptions>) => Promise<LyingAgent>;
  readonly enrol: (agent: EnrolledAgent, changes?: Readonly<Record<string, unknown>>) => Promise<void>;
  readonly status: (id: string) => Promise<AgentStatus>;
  /** The first status that fulfils `condition`. */
  readonly until: (id: string, condition: (status: AgentStatus) => boolean) => Promise<AgentStatus>;
  /** Outcomes of the rounds with this agent so far; of a verifier in this process only. */
  readonly outcomes: (id: string) => readonly string[];
  /** Resolves when the next answer is handed over to be judged in a thread; of a verifier in this process only. */
  readonly handedOver: () => Promise<void>;
  readonly log: () => string;
  /** SIGKILL for a process; a verifier in this process stops. */
  readonly kill: () => Promise<void>;
  readonly start: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** `as`: with that client certificate, or with none; by default the administrator's. */
export type Question = {
  readonly method?: string;
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
  readonly json: { readonly [key: string]: Json };
  readonly status: string;
  readonly results: { readonly [key: string]: Json };
};

export type AgentStatus = {
  readonly operational_state: number;
  readonly attestation_status: string;
  readonly attestation_count: number;
  readonly last_event_id: string | null;
  readonly severity_level: number | null;
  readonly last_successful_attestation: number;
  readonly unreachable_rounds: number;
  readonly inconclusive_rounds: number;
  readonly hash_alg: string;
  readonly last_failures: readonly {
    readonly event_id: string;
    readonly context: { readonly message?: string; readonly error?: string };
  }[];
};

export const GET_QUOTE = 3;
export const FAILED = 7;
export const INVALID_QUOTE = 9;
export const STOPPED = 10;

const PATIENCE_MS = 20_000;
const PROGRAM = path.join(import.meta.dirname, '../../packages/verifier/bin/keylime_verifier.mjs');

/** Files that the policy of the tests allows, each with its own path as content. */
export const ALLOWED_FILES: readonly string[] = ['/usr/bin/allowed', '/usr/bin/allowed-too'];

/** A runtime policy as JSON text. */
export const runtimePolicy = (changes: Readonly<Record<string, unknown>> = {}): string =>
  JSON.stringify({
    meta: { version: 1, generator: 3 },
    release: 0,
    digests: {
      boot_aggregate: [SIMULATED_BOOT_AGGREGATE],
      ...Object.fromEntries(ALLOWED_FILES.map((file) => [file, [digest('sha256', Buffer.from(file)).toString('hex')]])),
    },
    excludes: [],
    keyrings: {},
    ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: null },
    'ima-buf': {},
    'verification-keys': '',
    ...changes,
  });

export const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** What an operator has to know of an agent. */
export type EnrolledAgent = Pick<LyingAgent, 'id' | 'port' | 'registered'>;

/** The body with which an operator enrols the agent. */
export const enrolment = (
  agent: Pick<EnrolledAgent, 'port' | 'registered'>,
  changes: Readonly<Record<string, unknown>> = {},
) => ({
  v: null,
  cloudagent_ip: '127.0.0.1',
  cloudagent_port: agent.port,
  tpm_policy: '{"mask": "0x400"}',
  metadata: '{}',
  runtime_policy: base64(runtimePolicy()),
  runtime_policy_key: null,
  mb_policy: null,
  mb_policy_name: null,
  ima_sign_verification_keys: '',
  revocation_key: '',
  accept_tpm_hash_algs: ['sha512', 'sha384', 'sha256'],
  accept_tpm_encryption_algs: ['ecc', 'rsa'],
  accept_tpm_signing_algs: ['ecdsa', 'rsassa'],
  supported_version: '2.5',
  ...agent.registered,
  ...changes,
});

export type VerifierOptions = {
  /** Options of `[verifier]` and `[revocations]` by name. */
  readonly settings?: Readonly<Record<string, string>>;
  /** A process of its own, as operators run it, that can be killed; otherwise it runs in this one. */
  readonly process?: boolean;
  /** Further variables for a process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Issues its certificates; otherwise a CA of its own. */
  readonly ca?: TestCa;
  /** As `StartOptions` say; of a verifier in this process only. */
  readonly judging?: StartOptions['judging'];
};

/** Starts a verifier that asks twenty times a second and gives up soon. */
export async function startAttackedVerifier(options: VerifierOptions = {}): Promise<AttackedVerifier> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-attack-'));
  const { ca = await testCa() } = options;
  const server = await ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  const client = await ca.issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
  const admin = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
  const env = await writeFolder(folder, { ca, server, client }, options);
  const agents: LyingAgent[] = [];
  const outcomes = new Map<string, string[]>();
  let listeners: (() => void)[] = [];
  let log = '';
  const take = (text: string) => {
    log += text;
  };
  let running: RunningVerifier | undefined;
  let child: ChildProcess | undefined;
  let port = options.process ? await freePort() : 0;
  const pool = new ConnectionPool({ keepAlive: true, maxSockets: 4 });

  const start = async () => {
    if (options.process) {
      child = await startProcess({ ...env, ...options.env, KEYLIME_VERIFIER_PORT: String(port) }, take);
      return;
    }
    const { config } = loadVerifierConfig({ env });
    const sink = openLog({ name: 'keylime.verifier', level: 'info', destination: { write: take } });
    running = await startVerifier({ ...config, port: 0 }, loadCaConfig({ env }).config, sink, {
      onRound: (id, outcome) => outcomes.set(id, [...(outcomes.get(id) ?? []), outcome]),
      ...(options.judging && { judging: options.judging }),
      onHandOver: () => {
        for (const resolve of listeners) resolve();
        listeners = [];
      },
    });
    port = running.address.port;
  };
  const kill = async () => {
    await running?.close();
    running = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  const stop = async () => {
    await kill();
    pool.destroy();
    await Promise.all(agents.map((agent) => agent.stop()));
    await rm(folder, { recursive: true });
  };
  const ask = (question: Question) => askAt(question, { port, caPem: ca.certPem, admin, pool });
  const status = async (id: string) => {
    const { code, text, results } = await ask({ path: `/v2.6/agents/${id}` });
    assert.equal(code, 200, `status of ${id}: ${text}`);
    return results as unknown as AgentStatus;
  };
  try {
    await start();
  } catch (error) {
    await rm(folder, { recursive: true });
    throw error;
  }
  return {
    folder,
    ca,
    admin,
    port: () => port,
    ask,
    agent: async (id, more = {}) => {
      const agent = await startLyingAgent({ id, clientCaPem: ca.certPem, ...more });
      agents.push(agent);
      return agent;
    },
    enrol: async (agent, changes) => {
      const answer = await ask({ method: 'POST', path: `/v2.6/agents/${agent.id}`, json: enrolment(agent, changes) });
      assert.deepEqual([answer.code, answer.status], [200, 'Success'], answer.text);
    },
    status,
    until: async (id, condition) => {
      const deadline = performance.now() + PATIENCE_MS;
      for (;;) {
        const found = await status(id);
        if (condition(found)) return found;
        if (performance.now() > deadline)
          assert.fail(`still not so: ${condition}: ${JSON.stringify(found)}\n${log.slice(-2000)}`);
        await sleep(10);
      }
    },
    outcomes: (id) => outcomes.get(id) ?? [],
    handedOver: () => new Promise((resolve) => listeners.push(resolve)),
    log: () => log,
    kill,
    start,
    stop,
  };
}

async function writeFolder(
  folder: string,
  { ca, server, client }: { ca: TestCa; server: TestIdentity; client: TestIdentity },
  { settings = {} }: VerifierOptions,
): Promise<Record<string, string>> {
  const files = {
    'cacert.crt': ca.certPem,
    'server-cert.crt': server.certPem,
    'server-private.pem': server.keyPem,
    'client-cert.crt': client.certPem,
    'client-private.pem': client.keyPem,
  };
  await mkdir(path.join(folder, 'cv_ca'));
  for (const [name, text] of Object.entries(files)) {
    await writeFile(path.join(folder, 'cv_ca', name), text, { mode: 0o600 });
  }
  const all = {
    tls_dir: 'default',
    quote_interval: '0.05',
    max_retries: '2',
    retry_interval: '0.05',
    exponential_backoff: 'False',
    max_workers: '1',
    shutdown_drain_timeout: '1',
    enabled_revocation_notifications: '[]',
    ...settings,
  };
  const lines = (inSection: (name: string) => boolean) =>
    Object.entries(all)
      .filter(([name]) => inSection(name))
      .map(([name, value]) => `${name} = ${value}\n`)
      .join('');
  const isRevocation = (name: string) => Object.hasOwn(revocationOptions, name);
  const text = `[verifier]\n${lines((name) => !isRevocation(name))}[revocations]\n${lines(isRevocation)}`;
  for (const name of ['ca.conf', 'logging.conf']) await writeFile(path.join(folder, name), '');
  await writeFile(path.join(folder, 'verifier.conf'), text);
  return {
    PATH: process.env.PATH ?? '',
    KEYLIME_DIR: folder,
    KEYLIME_VERIFIER_CONFIG: path.join(folder, 'verifier.conf'),
    KEYLIME_CA_CONFIG: path.join(folder, 'ca.conf'),
    KEYLIME_LOGGING_CONFIG: path.join(folder, 'logging.conf'),
  };
}

async function startProcess(env: Readonly<Record<string, string>>, take: (text: string) => void) {
  const child = spawn(process.execPath, [PROGRAM], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  await new Promise<void>((resolve, reject) => {
    const read = (text: string) => {
      output += text;
      take(text);
      if (output.includes('Listening')) resolve();
    };
    child.stdout?.setEncoding('utf8').on('data', read);
    child.stderr?.setEncoding('utf8').on('data', read);
    child.once('exit', (code) => reject(new Error(`the verifier stopped with ${code}:\n${output}`)));
  });
  return child;
}

/**
 * A port that was free a moment ago, below those that the kernel gives to outgoing connections (32768 and up): of these
 * the tests make many, and one could take it before it is used.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

function askAt(
  { method = 'GET', path: target, json, body, as, headers = {} }: Question,
  verifier: { port: number; caPem: string; admin: TestIdentity; pool: ConnectionPool },
): Promise<Answer> {
  const payload = json === undefined ? body : JSON.stringify(json);
  const identity = as === 'nobody' ? {} : { cert: (as ?? verifier.admin).certPem, key: (as ?? verifier.admin).keyPem };
  return new Promise((resolve, reject) => {
    const request = httpsRequest({
      host: '127.0.0.1',
      port: verifier.port,
      ca: verifier.caPem,
      ...identity,
      method,
      path: target,
      // Only the administrator keeps connections: whoever else asks is to be looked at anew.
      agent: as === undefined ? verifier.pool : false,
      headers: {
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        ...(payload === undefined ? {} : { 'content-length': Buffer.byteLength(payload) }),
        ...headers,
      },
    });
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

/** Enrols an agent of this name, lets it pass, has it measure what is not allowed, and waits for the verdict. */
export async function offend(
  verifier: AttackedVerifier,
  id: string,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent, changes);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await verifier.until(id, ({ operational_state }) => operational_state > GET_QUOTE);
  return agent;
}

/** Resolves when `condition` holds; fails with `what` and the end of the log if it does not within twenty seconds. */
export async function eventually(verifier: AttackedVerifier, what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > deadline) assert.fail(`${what}:\n${verifier.log().slice(-3000)}`);
    await sleep(10);
  }
}

/**
 * Enrols the agent, lets it pass at least once, has it lie, and asserts that it is caught by an event of this id and with
 * this message, that it is asked no more, and that no round was counted but those in which it told the truth.
 */
export async function assertCaught(
  verifier: AttackedVerifier,
  agent: LyingAgent,
  lies: Parameters<LyingAgent['lie']>[0],
  expected: { readonly event: string; readonly message: RegExp; readonly state?: number },
): Promise<AgentStatus> {
  await verifier.enrol(agent);
  await verifier.until(agent.id, (status) => status.attestation_count > 0);
  agent.lie(lies);
  return assertFails(verifier, agent, expected);
}

export async function assertFails(
  verifier: AttackedVerifier,
  agent: LyingAgent,
  {
    event,
    message,
    state = INVALID_QUOTE,
  }: { readonly event: string; readonly message: RegExp; readonly state?: number },
): Promise<AgentStatus> {
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.equal(status.operational_state, state, JSON.stringify(status.last_failures));
  assert.equal(status.last_event_id, event, JSON.stringify(status.last_failures));
  assert.equal(status.last_failures[0]?.event_id, event);
  assert.match(String(status.last_failures[0]?.context.message) + JSON.stringify(status.last_failures[0]), message);
  assert.equal(status.attestation_status, 'FAIL');
  assert.equal(status.attestation_count, agent.truthful(), 'nothing but the truth was counted');
  return status;
}

/**
 * The longest time, in milliseconds of this thread's own work, for which a verifier in this process could do nothing else
 * while `work` went on. Other programs of the machine do not count.
 */
export async function longestHoldDuring(work: () => Promise<unknown>): Promise<number> {
  const spent = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let [last, longest] = [spent(), 0];
  const timer = setInterval(() => {
    const now = spent();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  await work();
  clearInterval(timer);
  return Math.max(longest, spent() - last);
}

/**
 * Has `agent` answer with a long list and resolves while that answer waits to be judged, behind a very long one of
 * `blocker`: long lists are judged one after the other in another thread. Nothing that happens to the connection ends that
 * round any more. `line` is repeated beyond what the quote covers, so the answer of `agent` is a good one.
 */
export async function judgedLate(
  verifier: AttackedVerifier,
  { agent, blocker, line, begin }: JudgedLate,
): Promise<void> {
  const answered = async (one: LyingAgent, list: (truth: string) => string, ask: () => Promise<unknown>) => {
    const handedOver = verifier.handedOver();
    one.lie({
      results: (truth) => ({ ...truth, ima_measurement_list: list(String(truth.ima_measurement_list)) }),
    });
    await ask();
    await handedOver;
    one.lie({ respond: () => {} });
  };
  await answered(
    blocker,
    () => line.repeat(500_000),
    async () => {},
  );
  await answered(agent, (truth) => truth + line.repeat(6_000), begin ?? (async () => {}));
}

export type JudgedLate = {
  readonly agent: LyingAgent;
  /** Enrolled. */
  readonly blocker: LyingAgent;
  readonly line: string;
  /** Makes the agent be asked, if it is not yet. */
  readonly begin?: () => Promise<unknown>;
};
