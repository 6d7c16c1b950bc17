import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { ecdsaKeyId, signEnvelope } from '@keylime/policies/dsse';
import { openLog } from '@keylime/service/log';
import { readRuntimePolicy } from './runtime-policy-file.ts';
import { TenantError, type TenantErrorCode } from './tenant-error.ts';
import { envelope, openLab } from './testing/lab.ts';

const policy = readFileSync(new URL('vectors/policy.json', import.meta.url));
const checksum = createHash('sha256').update(policy).digest('hex');

function files(t: test.TestContext) {
  const lab = openLab(t);
  const lines: string[] = [];
  const log = openLog({ name: 'keylime.tenant', destination: { write: (line) => lines.push(line) } });
  const write = (name: string, text: string | Buffer): string => {
    writeFileSync(path.join(lab.workDir, name), text);
    return path.join(lab.workDir, name);
  };
  const read = (source: Parameters<typeof readRuntimePolicy>[0]) => readRuntimePolicy(source, 5000, log);
  const refused = (source: Parameters<typeof readRuntimePolicy>[0], code: TenantErrorCode, message: RegExp) =>
    assert.rejects(read(source), (error) => {
      assert.ok(error instanceof TenantError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
  return { lab, lines, write, read, refused };
}

test('a policy is taken byte by byte', async (t) => {
  const { write, read } = files(t);
  const file = write('policy.json', policy);
  assert.deepEqual(await read({ file }), { policy, key: Buffer.alloc(0) });
});

test('a checksum is accepted in any case and with its name in front, another one is refused before anything else', async (t) => {
  const { write, read, refused } = files(t);
  const file = write('policy.json', policy);
  for (const one of [checksum, checksum.toUpperCase(), `sha256:${checksum}`]) await read({ file, checksum: one });
  await refused(
    { file, checksum: '00' },
    'policy_checksum',
    /Checksum of runtime policy does not match! Expected 00, Calculated [0-9a-f]{64}$/,
  );
  await refused({ file: write('no.json', 'x'), checksum: '00' }, 'policy_checksum', /does not match/);
});

test('what is no policy is refused with the place of the problem', async (t) => {
  const { write, refused } = files(t);
  await refused({ file: write('a', 'not json') }, 'policy_invalid', /Runtime policy is not valid JSON!/);
  await refused({ file: write('b', '[]') }, 'policy_invalid', /malformatted: \[\] is not of type 'object'/);
  await refused({ file: write('c', '{}') }, 'policy_invalid', /'meta' is a required property \(and 7 more problems\)/);
  const upper = policy.toString().replace(/"0{64}"/, '"ABCD"');
  await refused({ file: write('d', upper) }, 'policy_invalid', /at digests\.\/usr\/bin\/true\.0/);
  await refused({ file: '/nonexistent/policy' }, 'file_unreadable', /there is no such file/);
});

test('a signed policy needs a key, and a key needs a signed policy', async (t) => {
  const { write, refused } = files(t);
  const signed = write(
    'signed',
    JSON.stringify({ payload: policy.toString('base64'), payloadType: 'x', signatures: [] }),
  );
  await refused({ file: signed }, 'policy_signature', /signature verification required but no key was given!/);
  const key = write('key', 'x');
  await refused(
    { file: write('plain', policy), signatureKeyFile: key },
    'policy_signature',
    /Runtime policy is not signed!/,
  );
});

test('a signed policy goes out with its key, once its signature was verified', async (t) => {
  const { write, read, refused } = files(t);
  const [signer, other] = [0, 1].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  assert.ok(signer && other);
  const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'spki' }).toString();
  const text = signEnvelope(policy, signer.privateKey, ecdsaKeyId(signer.publicKey));
  const file = write('signed', text);
  const key = pem(signer.publicKey);
  assert.deepEqual(await read({ file, signatureKeyFile: write('key', key) }), {
    policy: Buffer.from(text),
    key: Buffer.from(key),
  });
  const wrong = { file, signatureKeyFile: write('other', pem(other.publicKey)) };
  await refused(wrong, 'policy_signature', /failed DSSE signature verification!/);
  await refused(
    { file, signatureKeyFile: write('none', 'x') },
    'policy_signature',
    /not a public key or a certificate/,
  );
  const invalid = write('invalid', signEnvelope(Buffer.from('{}'), signer.privateKey, ''));
  await refused({ file: invalid, signatureKeyFile: write('key', key) }, 'policy_invalid', /'meta' is a required/);
});

test('an exclude pattern that this program does not take is a warning only', async (t) => {
  const { write, read, lines } = files(t);
  await read({ file: write('policy.json', policy.toString().replace('"excludes": []', '"excludes": ["(a"]')) });
  assert.match(lines.join(''), /WARNING - .*the verifier may refuse this policy/);
});

test('a policy is downloaded without following redirects, and only with status 200', async (t) => {
  const { lab, read, refused } = files(t);
  const server = await lab.serve(({ path: url }) => ({ status: url === '/ok' ? 200 : 302, body: policy.toString() }), {
    plain: true,
  });
  const url = `http://127.0.0.1:${server.port}`;
  assert.deepEqual((await read({ url: `${url}/ok`, checksum })).policy, policy);
  await refused({ url: `${url}/ok`, checksum: '00' }, 'policy_checksum', /does not match/);
  await refused({ url: `${url}/moved`, checksum }, 'download_failed', /the server answered 302/);
  await refused({ url: 'http://127.0.0.1:2/', checksum }, 'download_failed', /ECONNREFUSED/);
  await refused({ url: 'file:///etc/passwd', checksum }, 'download_failed', /no http or https address/);
});

test('a policy server that only this CA vouches for is refused: the system decides about downloads', async (t) => {
  const { lab, refused } = files(t);
  const server = await lab.serve(() => envelope(200, 'Success'));
  await refused({ url: `https://127.0.0.1:${server.port}/`, checksum }, 'download_failed', /./);
});

test('an exclude that matches a keyring is taken, and warned of', async (t) => {
  const { write, read, lines } = files(t);
  const excludes = { ...JSON.parse(policy.toString()), excludes: ['\\.ima'] };
  await read({ file: write('policy.json', JSON.stringify(excludes)) });
  assert.match(lines.join(''), /WARNING.*policy\.json: The exclude list matches the keyrings \.ima, but/);
});
