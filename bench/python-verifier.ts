import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { writeConfiguration } from '../test/interop/configuration.ts';
import { launcher } from '../test/interop/launchers.ts';
import { freePorts, logTail, type Program, startProgram, waitFor } from '../test/interop/processes.ts';

/** Agents that wait to be attested, as `startSimulatedFleet` of packages/testing makes them. */
export type EnrollableFleet = {
  readonly members: readonly {
    readonly id: string;
    readonly ip: string;
    readonly port: number;
    readonly akTpmBase64: string;
    readonly mtlsCert: string;
  }[];
  readonly stop: () => Promise<void>;
};

export type PythonVerifierOptions = {
  /** Is given the CA (PEM) of the verifier's client certificate. */
  readonly startFleet: (clientCaPem: string) => Promise<EnrollableFleet>;
  /** JSON text; every agent is enrolled with it, and PCR 10 is asked for. */
  readonly runtimePolicy: string;
  /** Length of the measured window; it starts when every agent has been attested once. */
  readonly seconds: number;
  /** Worker processes; the verifier caps them at the number of cores. */
  readonly workers: number;
};

export type PythonVerifierMeasurement = {
  readonly agents: number;
  readonly workers: number;
  readonly seconds: number;
  readonly attestations: number;
  readonly attestationsPerSecond: number;
  /** User and system time of all the verifier's processes. */
  readonly cpuSecondsPer1000: number;
  /** Proportional set size of all the verifier's processes at the end. */
  readonly residentBytes: number;
};

const TICKS_PER_SECOND = 100; // USER_HZ of Linux

/** CPU seconds and memory of every process in the group that `program` leads (proc(5)). */
async function usage(program: Program): Promise<{ readonly cpuSeconds: number; readonly residentBytes: number }> {
  let ticks = 0;
  let kibibytes = 0;
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    // A process may end between two reads.
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(fields[2]) !== program.pid) continue;
    // utime, stime and those of children that have ended.
    ticks += fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
    kibibytes += Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0);
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes: kibibytes * 1024 };
}

type Call = (
  method: string,
  path: string,
  body?: unknown,
) => Promise<{ readonly status: number; readonly text: string }>;

/** Calls the verifier with the client certificate that it made itself. */
async function administrator(folder: string, port: number): Promise<{ readonly call: Call; readonly caPem: string }> {
  const file = (name: string) => readFile(join(folder, 'cv_ca', name), 'utf8');
  const [ca = '', cert, key] = await Promise.all(['cacert.crt', 'client-cert.crt', 'client-private.pem'].map(file));
  const agent = new Agent({ keepAlive: true, ca, cert, key });
  const call: Call = async (method, path, body) => {
    const outgoing = request({ agent, host: '127.0.0.1', port, method, path });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    const [answer] = await once(outgoing, 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk);
    return { status: answer.statusCode, text: Buffer.concat(chunks).toString() };
  };
  return { call, caPem: ca };
}

const enrolment = (member: EnrollableFleet['members'][number], runtimePolicyBase64: string) => ({
  v: null,
  cloudagent_ip: member.ip,
  cloudagent_port: member.port,
  tpm_policy: JSON.stringify({ mask: '0x400' }),
  runtime_policy: runtimePolicyBase64,
  runtime_policy_name: '',
  runtime_policy_key: '',
  mb_policy: null,
  mb_policy_name: '',
  ima_sign_verification_keys: '',
  metadata: '{}',
  revocation_key: '',
  accept_tpm_hash_algs: ['sha256'],
  accept_tpm_encryption_algs: ['ecc', 'rsa'],
  accept_tpm_signing_algs: ['rsassa', 'ecdsa'],
  ak_tpm: member.akTpmBase64,
  mtls_cert: member.mtlsCert,
  supported_version: '2.6',
});

/** Counts straight from the verifier's database: asking its API would cost it time that is being measured. */
function counts(database: DatabaseSync): {
  readonly attestations: number;
  readonly attested: number;
  readonly failed: number;
} {
  const row = database
    .prepare(
      `SELECT coalesce(sum(attestation_count), 0) AS attestations, coalesce(sum(attestation_count > 0), 0) AS attested,
        coalesce(sum(operational_state IN (7, 9, 10)), 0) AS failed FROM verifiermain`,
    )
    .get();
  return {
    attestations: Number(row?.attestations),
    attested: Number(row?.attested),
    failed: Number(row?.failed),
  };
}

/**
 * Measures the existing verifier (`npm run interop` installs it) on SQLite with mutual TLS, polling without pause.
 * Answers `notRun` where it is not installed. Throws when an agent is not attested: such a number would mean nothing.
 */
export async function measurePythonVerifier(
  options: PythonVerifierOptions,
): Promise<PythonVerifierMeasurement | { readonly notRun: string }> {
  const { startFleet, runtimePolicy, seconds, workers } = options;
  const launch = launcher('verifier', 'theirs', 'pull');
  if ('missing' in launch) return { notRun: launch.missing };
  await using undo = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'python-verifier-'));
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const services = join(folder, 'services');
  await mkdir(services);
  const [port = 0] = await freePorts(1);
  const { services: env } = await writeConfiguration(join(folder, 'config'), {
    model: 'pull',
    ports: { verifier: port, registrar: 0, registrarTls: 0, agent: 0 },
    servicesFolder: services,
    agentFolder: folder,
    certStore: folder,
    measurementList: join(folder, 'none'),
    bootLog: join(folder, 'none'),
    agentId: 'none',
    webhookUrl: '',
    quoteIntervalSeconds: 0,
    verifierWorkers: workers,
  });
  const start = async () => {
    const program = await startProgram('the Python verifier', { ...launch, env, cwd: folder }, join(folder, 'log'));
    undo.defer(() => program.stop());
    const reachable = async () => {
      try {
        const admin = await administrator(services, port);
        return (await admin.call('GET', '/version')).status === 200 ? admin : undefined;
      } catch {
        return undefined; // no certificates yet, or no listener
      }
    };
    return { program, ...(await waitFor('the verifier answers', reachable, { timeoutMs: 60_000, program })) };
  };
  const { program: first, call, caPem } = await start();
  const fleet = await startFleet(caPem);
  undo.defer(fleet.stop);
  const policy = Buffer.from(runtimePolicy).toString('base64');
  for (const member of fleet.members) {
    const { status, text } = await call('POST', `/v2.6/agents/${member.id}`, enrolment(member, policy));
    if (status !== 200) throw new Error(`the Python verifier did not enrol ${member.id}: ${status} ${text}`);
  }
  // Whichever worker takes an enrolment keeps the agent; only at its start does the verifier deal them out evenly.
  await first.stop(15_000);
  const database = new DatabaseSync(join(services, 'cv_data.sqlite'), { timeout: 10_000 });
  undo.defer(() => database.close());
  database.exec('UPDATE verifiermain SET attestation_count = 0');
  const { program } = await start();
  const refuseFailures = () => {
    const { failed } = counts(database);
    if (failed > 0) throw new Error(`${failed} agents failed at the Python verifier:\n${logTail(program.log, 30)}`);
  };
  const allAttested = async () => {
    refuseFailures();
    return counts(database).attested === fleet.members.length ? true : undefined;
  };
  await waitFor('every agent was attested once', allAttested, { timeoutMs: 300_000, everyMs: 500, program });

  const before = { at: performance.now(), ...counts(database), ...(await usage(program)) };
  await delay(seconds * 1000);
  const end = { at: performance.now(), ...counts(database), ...(await usage(program)) };
  refuseFailures();
  const attestations = end.attestations - before.attestations;
  const elapsed = (end.at - before.at) / 1000;
  return {
    agents: fleet.members.length,
    workers,
    seconds: elapsed,
    attestations,
    attestationsPerSecond: attestations / elapsed,
    cpuSecondsPer1000: ((end.cpuSeconds - before.cpuSeconds) * 1000) / attestations,
    residentBytes: end.residentBytes,
  };
}
