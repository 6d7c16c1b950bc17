import assert from 'node:assert/strict';
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

/* An operator's way with measured-boot policies: tool, tenant and verifier as processes. */
const programOf = (name: string) => fileURLToPath(new URL(`../../packages/${name}`, import.meta.url));
const TOOL = programOf('policy-tool/bin/keylime_policy.mjs');
const TENANT = programOf('tenant/bin/keylime_tenant.mjs');
const LOG = programOf('testing/vectors/debian12-secureboot-vm/bios.bin');

let verifier: AttackedVerifier;
let folder: string;
let reference: string;
before(async () => {
  verifier = await startAttackedVerifier({ process: true });
  folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-mb-tenant-'));
  const { certPem, keyPem } = verifier.admin;
  for (const [name, text] of Object.entries({
    'ca.crt': verifier.ca.certPem,
    'client.crt': certPem,
    'client.key': keyPem,
  })) {
    writeFileSync(path.join(folder, name), text, { mode: 0o600 });
  }
  const settings = {
    verifier_ip: '127.0.0.1',
    verifier_port: String(verifier.port()),
    tls_dir: folder,
    trusted_server_ca: path.join(folder, 'ca.crt'),
    client_cert: path.join(folder, 'client.crt'),
    client_key: path.join(folder, 'client.key'),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}\n`);
  writeFileSync(path.join(folder, 'tenant.conf'), `[tenant]\n${lines.join('')}`);
  reference = path.join(folder, 'web.json');
  const made = await run(TOOL, 'create', 'measured-boot', '-e', LOG, '-o', reference);
  assert.equal(made.code, 0, made.output);
});
after(async () => {
  await verifier?.stop();
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

async function run(program: string, ...args: readonly string[]) {
  const env = { PATH: process.env.PATH, KEYLIME_DIR: folder, KEYLIME_TENANT_CONFIG: path.join(folder, 'tenant.conf') };
  return new Promise<{ code: number; output: string }>((resolve) => {
    execFile(process.execPath, [program, ...args], { env }, (error: ExecFileException | null, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` }),
    );
  });
}
const tenant = (command: string, name: string, ...args: readonly string[]) =>
  run(TENANT, '-c', command, ...(name === '' ? [] : ['--mb-policy-name', name]), ...args);

async function says(code: number, text: RegExp, answer: ReturnType<typeof tenant>): Promise<string> {
  const { code: found, output } = await answer;
  assert.match(output, text);
  assert.equal(found, code, output);
  return output;
}

test('a reference state is stored, and the operator hears that nothing of it will be looked at', async () => {
  const output = await says(0, /'code': 201/, tenant('addmbpolicy', 'web', '--mb-policy', reference));
  const warning = /WARNING - The reference state names no policy, so accept-all .* tenant --mb-policy-rules\n/;
  assert.match(output, warning);
});

test('named rules judge by it, and there is nothing to warn of', async () => {
  const rules = ['--mb-policy', reference, '--mb-policy-rules', 'strict'];
  const output = await says(0, /'code': 201/, tenant('updatembpolicy', 'web', ...rules));
  assert.doesNotMatch(output, /WARNING/);
  await says(0, /'mb_policy_rules': 'strict'/, tenant('showmbpolicy', 'web'));
  await says(0, /'mbpolicy names': \['web'\]/, tenant('listmbpolicy', ''));
});

test('conflicts, unknown names and rules, and reference states that nobody can judge by are told', async () => {
  const file = ['--mb-policy', reference];
  await says(1, /Measured boot policy with name web already exists/, tenant('addmbpolicy', 'web', ...file));
  await says(1, /with name nix does not already exist/, tenant('updatembpolicy', 'nix', ...file));
  await says(1, /Measured boot policy nix not found/, tenant('showmbpolicy', 'nix'));
  await says(
    1,
    /no measured-boot policy nobody/,
    tenant('updatembpolicy', 'web', ...file, '--mb-policy-rules', 'nobody'),
  );
  const bad = path.join(folder, 'bad.json');
  writeFileSync(bad, '{"pk": 1}');
  const refused = tenant('updatembpolicy', 'web', '--mb-policy', bad, '--mb-policy-rules', 'strict');
  await says(1, /mb_policy cannot be used: .*pk: /, refused);
  await says(0, /'mb_policy_rules': 'strict'/, tenant('showmbpolicy', 'web'));
});

test('a policy that an agent uses stays, and goes when nobody does', async () => {
  const agent = await verifier.agent('user');
  const own = { mb_policy: null, mb_policy_name: 'web', runtime_policy: '', tpm_policy: '{"mask": "0x0"}' };
  await verifier.enrol(agent, own);
  await says(1, /currently in use by agent user/, tenant('deletembpolicy', 'web'));
  await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/user' });
  await says(0, /\{\}/, tenant('deletembpolicy', 'web'));
  await says(1, /Measured boot policy web not found/, tenant('deletembpolicy', 'web'));
});
