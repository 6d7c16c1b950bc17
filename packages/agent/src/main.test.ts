import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { freePort } from '@keylime/service/free-port';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { testCa } from '@keylime/testing/test-certificates';
import { startTestRegistrar, type TestRegistrar } from './test-registrar.ts';

const PROGRAM = join(import.meta.dirname, '..', 'bin', 'keylime_agent.mjs');
const PUSH_PROGRAM = join(import.meta.dirname, '..', 'bin', 'keylime_push_model_agent.mjs');

/** A tmpfs: nothing has to be mounted for payloads there. */
const MEMORY = '/dev/shm';

let home: string;
let tpm: Swtpm;
let registrar: TestRegistrar;

before(async () => {
  home = mkdtempSync(join(MEMORY, 'keylime-agent-main-'));
  mkdirSync(join(home, 'cv_ca'));
  writeFileSync(join(home, 'cv_ca', 'cacert.crt'), (await testCa()).certPem);
  tpm = await startSwtpm({ certificates: false });
  registrar = await startTestRegistrar();
});
after(async () => {
  await registrar.close();
  await tpm.stop();
  rmSync(home, { recursive: true });
});

/** Starts the program with `agent.conf`; `said` resolves with its output as soon as that matches. */
function run(args: readonly string[], options: Readonly<Record<string, string | number>>, program = PROGRAM) {
  const toml = Object.entries({ run_as: '', port: 0, ...options }).map(
    ([name, value]) => `${name} = ${JSON.stringify(value)}`,
  );
  const file = join(home, 'agent.conf');
  writeFileSync(file, `[agent]\n${toml.filter((line) => line !== 'port = 0').join('\n')}\n`);
  const { PATH } = process.env;
  const env = { PATH, TCTI: tpm.tcti, KEYLIME_DIR: home, KEYLIME_AGENT_CONFIG: file };
  const child: ChildProcess = spawn(process.execPath, [program, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk;
      for (const look of waiting) look();
    });
  }
  const ended = once(child, 'close').then(([code]) => ({ code: code as number, output }));
  const said = (pattern: RegExp) => {
    const seen = new Promise<void>((resolve) => {
      const look = () => pattern.test(output) && resolve();
      waiting.add(look);
      look();
    });
    const never = ended.then(() => {
      if (!pattern.test(output)) throw new Error(`the agent never said ${pattern}: ${output}`);
    });
    return Promise.race([seen, never]);
  };
  return { child, ended, said };
}

test('the program registers, listens, and ends with 0 on SIGTERM', async () => {
  const { child, ended, said } = run([], { registrar_port: registrar.port, port: await freePort() });
  await said(/Listening on https:\/\/127\.0\.0\.1:/);
  child.kill('SIGTERM');
  const { code, output } = await ended;
  assert.equal(code, 0);
  assert.match(
    output,
    /SUCCESS: Agent d432fbb3\S* registered[\s\S]*SUCCESS: Agent d432fbb3\S* activated[\s\S]*Stopped/,
  );
});

test('SIGTERM ends it also while it waits for the registrar', async () => {
  const { child, ended, said } = run([], { registrar_port: await freePort() });
  await said(/Registration failed and is tried again/);
  child.kill('SIGTERM');
  assert.equal((await ended).code, 0);
});

test('the push program registers, attests while the verifier is away, and ends with 0 on SIGTERM', async () => {
  const options = { registrar_port: registrar.port, verifier_url: `https://127.0.0.1:${await freePort()}` };
  const { child, ended, said } = run([], options, PUSH_PROGRAM);
  await said(/No attestation: it is tried again .*The verifier cannot be reached/);
  child.kill('SIGTERM');
  const { code, output } = await ended;
  assert.equal(code, 0);
  assert.match(output, /SUCCESS: Agent d432fbb3\S* activated[\s\S]*Stopped/);
  assert.doesNotMatch(output, /Listening on/);
});

test('a push program that the registrar refuses ends with 1 and an explanation, and one without a CA does not start', async () => {
  registrar.refusals.push({ status: 403 });
  const refused = await run([], { registrar_port: registrar.port }, PUSH_PROGRAM).ended;
  assert.equal(refused.code, 1);
  assert.match(refused.output, /keylime_agent: The registrar refuses to register agent d432fbb3/);
  const noCa = await run(['--check'], { verifier_tls_ca_cert: 'none.crt' }, PUSH_PROGRAM).ended;
  assert.equal(noCa.code, 1);
  assert.match(noCa.output, /verifier_tls_ca_cert: .*none\.crt cannot be read/);
});

test('--check says what is wrong with the settings, all of it, and a slip comes with a suggestion', async () => {
  const good = await run(['--check'], { registrar_prot: 1 }).ended;
  assert.equal(good.code, 0);
  assert.match(good.output, /registrar_prot is unknown \(did you mean "registrar_port"\?\)/);
  const bad = await run(['--check'], { uuid: 'dmidecode', tpm_hash_alg: 'sha265' }).ended;
  assert.equal(bad.code, 1);
  assert.match(bad.output, /agent\.conf:\d+: uuid = "dmidecode"[\s\S]*did you mean "sha256"/);
});

test('a TPM that is not there, and a user that does not exist, end it with 1 and what to do', async () => {
  await tpm.kill();
  const noTpm = await run([], { registrar_port: registrar.port }).ended;
  await tpm.restart();
  assert.equal(noTpm.code, 1);
  assert.match(noTpm.output, /keylime_agent: TPM emulator at 127\.0\.0\.1:\d+ is not running/);
  if (process.getuid?.() !== 0) return;
  const noUser = await run([], { registrar_port: registrar.port, run_as: 'no-such-user:tss' }).ended;
  assert.equal(noUser.code, 1);
  assert.match(noUser.output, /run_as = "no-such-user:tss".*set run_as = ""/);
});

test('--help and --version need no configuration', async () => {
  assert.match((await run(['--help'], {}).ended).output, /^Usage: keylime_agent/);
  assert.match((await run(['--version'], {}).ended).output, /^keylime_agent \d/);
});
