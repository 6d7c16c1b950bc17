import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type FleetMember, fleetRuntimePolicy } from '@keylime/testing/simulated-fleet';
import { startFleetProcess } from './fleet-process.ts';
import { startOurVerifier } from './our-verifier.ts';
import { measurePythonVerifier } from './python-verifier.ts';

const POLICY = 'fleet';

/** What a tenant sends to enrol a simulated agent. */
const enrolment = (member: FleetMember) => ({
  v: null,
  cloudagent_ip: member.ip,
  cloudagent_port: member.port,
  tpm_policy: JSON.stringify({ mask: '0x400' }),
  runtime_policy: '',
  runtime_policy_name: POLICY,
  runtime_policy_key: '',
  mb_policy: null,
  mb_policy_name: null,
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

export type PullFleetResult = Awaited<ReturnType<typeof measureOurs>>;

/**
 * Attests `agents` simulated agents, as fast as it goes with `intervalSeconds` 0, otherwise at that interval; beside them
 * `unreachable` agents that nobody answers for. The window starts when every healthy agent was attested at least once.
 */
export async function measureOurs(options: {
  readonly agents: number;
  readonly unreachable: number;
  readonly seconds: number;
  readonly intervalSeconds: number;
  readonly encryption: 'rsa2048' | 'ecc256';
  readonly newEntriesPerQuote: number;
  readonly files: number;
  readonly nodeOptions?: readonly string[];
}) {
  const { agents, unreachable, seconds, intervalSeconds } = options;
  const verifier = await startOurVerifier({
    quoteIntervalSeconds: intervalSeconds,
    watch: '^fleet-agent',
    ...(options.nodeOptions && { nodeOptions: options.nodeOptions }),
  });
  const fleet = await startFleetProcess({
    agents,
    encryption: options.encryption,
    clientCaPem: verifier.caPem,
    newEntriesPerQuote: options.newEntriesPerQuote,
    files: options.files,
  });
  const silent = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port: silentPort } = silent.address() as AddressInfo;
  try {
    const policy = Buffer.from(fleetRuntimePolicy(options.files)).toString('base64');
    await expectCode(201, verifier.call('POST', `/v2.6/allowlists/${POLICY}`, { runtime_policy: policy }));
    const first = fleet.members[0];
    if (first === undefined) throw new RangeError('A fleet has at least one agent.');
    // Half of them refuse the connection, half take it and never say a word: the cheap and the dear kind.
    const dead = Array.from({ length: unreachable }, (_, n) => ({
      ...first,
      id: `dead-agent-${n}`,
      ip: '127.0.0.1',
      port: n % 2 === 0 ? 9 : silentPort,
    }));
    const enrolStarted = performance.now();
    const all = [...fleet.members, ...dead];
    for (let i = 0; i < all.length; i += 16) {
      await Promise.all(
        all
          .slice(i, i + 16)
          .map((member) => expectCode(200, verifier.call('POST', `/v2.6/agents/${member.id}`, enrolment(member)))),
      );
    }
    const enrolledPerSecond = (1000 * all.length) / (performance.now() - enrolStarted);
    // Everybody has had a first round; one-off work (connections, first full lists) is over.
    const settleUntil = performance.now() + 300_000;
    for (let before = await verifier.sample(); before.attestations < 2 * agents; before = await verifier.sample()) {
      if (performance.now() > settleUntil) throw new Error(`Only ${before.attestations} attestations in 5 minutes.`);
      await delay(200);
    }
    const start = await verifier.sample();
    const startedAt = performance.now();
    await delay(seconds * 1000);
    const end = await verifier.sample();
    const measuredSeconds = (performance.now() - startedAt) / 1000;
    const attestations = end.attestations - start.attestations;
    const periods = end.periodsMs;
    const percentile = (share: number) =>
      periods[Math.min(periods.length - 1, Math.floor(periods.length * share))] ?? Number.NaN;
    const cpuSeconds = end.cpuSeconds - start.cpuSeconds;
    return {
      agents,
      unreachable,
      encryption: options.encryption,
      intervalSeconds,
      newEntriesPerQuote: options.newEntriesPerQuote,
      filesInPolicy: options.files,
      seconds: round(measuredSeconds),
      attestations,
      otherRounds: end.otherRounds - start.otherRounds,
      attestationsPerSecond: round(attestations / measuredSeconds),
      periodP50Ms: round(percentile(0.5)),
      periodP99Ms: round(percentile(0.99)),
      cpuSecondsPer1000: round((1000 * cpuSeconds) / attestations, 4),
      cpuShare: round(cpuSeconds / measuredSeconds),
      statementsPerAttestation: round((end.statements - start.statements) / attestations),
      residentMegabytes: Math.round(end.residentBytes / 1e6),
      enrolledPerSecond: Math.round(enrolledPerSecond),
    };
  } finally {
    silent.close();
    await fleet.stop();
    await verifier.stop();
  }
}

async function expectCode(code: number, call: Promise<number>): Promise<void> {
  const found = await call;
  if (found !== code) throw new Error(`The verifier answered ${found}, ${code} was expected.`);
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));

/**
 * Options: `--agents N` (200), `--unreachable N`, `--seconds S`, `--interval S` (0: as fast as it goes), `--ak ecc256|rsa2048`,
 * `--entries N` new list entries before each quote, `--files N` files in the policy, `--python` measures the existing verifier on the same fleet in the same run
 * (at interval 0, one worker; `npm run interop` installs it), `--profile` leaves a CPU profile of the verifier in `.prof`.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: 'boolean' },
      agents: { type: 'string', default: '200' },
      unreachable: { type: 'string', default: '0' },
      seconds: { type: 'string', default: '10' },
      interval: { type: 'string', default: '0' },
      ak: { type: 'string', default: 'ecc256' },
      entries: { type: 'string', default: '0' },
      files: { type: 'string', default: '100' },
      python: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
    },
  });
  const { ak: encryption } = values;
  if (encryption !== 'rsa2048' && encryption !== 'ecc256') throw new RangeError('--ak is rsa2048 or ecc256.');
  const seconds = Number(values.seconds);
  const newEntriesPerQuote = Number(values.entries);
  const files = Number(values.files);
  const ours = await measureOurs({
    agents: Number(values.agents),
    unreachable: Number(values.unreachable),
    seconds,
    intervalSeconds: Number(values.interval),
    encryption,
    newEntriesPerQuote,
    files,
    ...(values.profile && { nodeOptions: ['--cpu-prof', '--cpu-prof-dir=.prof'] }),
  });
  if (!values.python) return { ours };
  const python = await measurePythonVerifier({
    // More than it attests in the window would only make it slower to settle.
    startFleet: (clientCaPem) =>
      startFleetProcess({ agents: Math.min(50, ours.agents), encryption, clientCaPem, newEntriesPerQuote, files }),
    runtimePolicy: fleetRuntimePolicy(files),
    seconds,
    workers: 1,
  });
  if ('notRun' in python) return { ours, python };
  return {
    ours,
    python,
    cpuTimesPython: round(python.cpuSecondsPer1000 / ours.cpuSecondsPer1000),
    rateTimesPython: round(ours.attestationsPerSecond / python.attestationsPerSecond),
  };
}
