import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { folder, runTool, writeFiles } from './tool.fixture.ts';

const PROGRAM = fileURLToPath(new URL('../bin/keylime_policy.mjs', import.meta.url));

for (const [args, code, text] of [
  [[], 0, /^Usage: keylime-policy/],
  [['--help'], 0, /^Usage: keylime-policy/],
  [['create', 'runtime', '--help'], 0, /--ima-measurement-list/],
  [['--version'], 0, /^keylime-policy 0\.0\.0$/m],
] as const) {
  test(`keylime-policy ${args.join(' ')} prints help or version`, async () => {
    const made = await runTool(args);
    assert.equal(made.code, code);
    assert.match(made.stdout, text);
    assert.equal(made.stderr, '');
  });
}

for (const [args, message] of [
  [['nothing'], /unknown command/],
  [['create', 'runtime', '--nothing'], /unknown option/],
  [['create', 'runtime', '--algo', 'md5'], /Allowed choices are sha1, sha256/],
  [['create', 'runtime', '--max-workers', '0'], /A number from 1 to 1024 is wanted/],
  [['create', 'runtime', '--deb', 'http://example.org'], /a repository is given as/],
  [['sign', 'runtime'], /required option '-r, --runtime-policy <file>'/],
  [['sign', 'runtime', '-r', 'x', '-b', 'x509'], /needs --cert-outfile/],
  [['sign', 'runtime', '-r', 'x', '-k', 'a', '-p', 'b'], /give one of them/],
  [['verify', 'x'], /required option '-k, --key <file>'/],
  [['convert'], /Give either --allowlist or --runtime-policy/],
  [['diff', 'x'], /missing required argument 'new'/],
] as const) {
  test(`a wrong command line ends with 2 and says what is wrong: ${args.join(' ')}`, async () => {
    const { code, stdout, stderr } = await runTool(args);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}

test('a reader that goes away ends the program with 1, and nothing but the policy is on stdout', async (t) => {
  const directory = folder(t);
  const lines = Array.from({ length: 20_000 }, (_, i) => `${String(i).padStart(64, '0')}  /file/${i}\n`);
  writeFiles(directory, { allow: lines.join('') });
  const args = [PROGRAM, 'create', 'runtime', '-a', path.join(directory, 'allow')];
  const start = () => spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [whole, cut] = [start(), start()];
  let text = '';
  whole.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  cut.stdout.destroy();
  const codes = await Promise.all([whole, cut].map(async (one) => (await once(one, 'close'))[0]));
  assert.deepEqual(codes, [0, 1]);
  assert.equal(Object.keys(JSON.parse(text).digests).length, 20_000);
});
