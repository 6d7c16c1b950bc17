import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { debArchive } from '@keylime/policy-tool/archive/archives.fixture';
import { run } from '@keylime/policy-tool/run';
import { failureLines } from '@keylime/tenant/failure-lines';
import {
  type AttackedVerifier,
  assertFails,
  base64,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

let folder: string;
let verifier: AttackedVerifier;
before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-packages-'));
  verifier = await startAttackedVerifier();
});
after(async () => {
  await verifier?.stop();
  await rm(folder, { recursive: true });
});

/** What the policy tool makes of the files that the tests allow, and of Debian packages. */
async function packagePolicy(...packages: readonly Buffer[]): Promise<string> {
  const [base, output] = [path.join(folder, 'base.json'), path.join(folder, 'policy.json')];
  await writeFile(base, runtimePolicy());
  const debs = packages.map((_, i) => path.join(folder, `${i}.deb`));
  for (const [i, content] of packages.entries()) await writeFile(debs[i] ?? '', content);
  const args = ['create', 'runtime', '-p', base, ...debs.flatMap((deb) => ['--deb', deb]), '-o', output, '--no-cache'];
  let errors = '';
  const code = await run(args, {
    env: {},
    stdout: { write: () => {} },
    stderr: { write: (text) => (errors += text) },
    version: '0',
    now: () => new Date(),
  });
  assert.equal(code, 0, errors);
  return await readFile(output, 'utf8');
}

const tool = (version: string, path = './usr/bin/tool') =>
  debArchive('tool', version, [{ path, content: `tool ${version}` }]);

test('a failure names the packages that the digests came from, for programs and for the operator', async () => {
  const policy = await packagePolicy(tool('1.0-1'), tool('1.1-1', './usr/bin/tool-next'));
  const agent = await verifier.agent('packages');
  await verifier.enrol(agent, { runtime_policy: base64(policy) });
  agent.machine.measure('/usr/bin/tool', Buffer.from('tool 1.0-1'));
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 1);
  agent.lie({});
  agent.machine.measure('/usr/bin/tool', Buffer.from('tool 1.1-1'));
  const status = await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.runtime_policy_hash',
    message: /\/usr\/bin\/tool/,
  });
  const { context } = status.last_failures[0] as { readonly context: Record<string, unknown> };
  assert.deepEqual(context.expected_packages, ['tool 1.0-1']);
  assert.equal(context.got_package, 'tool 1.1-1');
  assert.deepEqual(context.listed_for, ['/usr/bin/tool-next']);
  const { results } = await verifier.ask({ path: `/v2.6/agents/${agent.id}` });
  const [line = ''] = failureLines(results);
  assert.match(
    line,
    /which is of tool 1\.1-1; expected [0-9a-f]{64}; of tool 1\.0-1; .* listed for \/usr\/bin\/tool-next/,
  );
});
