import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { freePort } from '@keylime/service/free-port';
import { debArchive } from '../archive/archives.fixture.ts';
import { serveFiles } from '../http-server.fixture.ts';
import { makeSigner, type Signer } from '../signer.fixture.ts';
import { folder, policyOf, runTool, sha256, skipWithout, writeFiles } from '../tool.fixture.ts';

const HELLO = debArchive('hello', '1.0', [{ path: './usr/bin/hello', content: 'hello' }]);
const OTHER = debArchive('other', '2.0', [{ path: './usr/bin/other', content: 'other' }]);

type Repository = { readonly directory: string; readonly release: string };

/** A repository with one suite, two packages and, given a signer, signatures of both kinds. */
async function makeRepository(t: TestContext, signer?: Signer): Promise<Repository> {
  const directory = folder(t);
  const stanza = (name: string, deb: Buffer) =>
    `Package: ${name}\nVersion: 1\nFilename: pool/${name}.deb\nSize: ${deb.length}\nSHA256: ${sha256(deb)}\n`;
  const packages = gzipSync(`${stanza('hello', HELLO)}\n${stanza('other', OTHER)}`);
  const release = `Origin: Test\nSuite: stable\nSHA256:\n ${sha256(packages)} ${packages.length} main/binary-amd64/Packages.gz\n`;
  writeFiles(directory, {
    'pool/hello.deb': HELLO,
    'pool/other.deb': OTHER,
    'dists/stable/main/binary-amd64/Packages.gz': packages,
    'dists/stable/Release': release,
    ...(signer && {
      'dists/stable/Release.gpg': await signer.detached(release),
      'dists/stable/InRelease': await signer.clearSigned(release),
      'key.asc': signer.publicKey,
      'key.gpg': signer.publicKeyBytes,
    }),
  });
  return { directory, release };
}

const create = (where: string, ...args: readonly string[]) =>
  runTool(['create', 'runtime', '--deb', `${where} stable main`, '--deb-arch', 'amd64', ...args]);

const BOTH = { '/usr/bin/hello': [sha256('hello')], '/usr/bin/other': [sha256('other')] };

test('a repository in a directory and on a server gives the files of its packages', async (t) => {
  const { directory } = await makeRepository(t);
  const { url } = await serveFiles(t, directory);
  for (const where of [directory, `file://${directory}`, url, `deb ${url}/`]) {
    const made = await create(where);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, BOTH);
    assert.equal(policyOf(made).packages?.[sha256('other')], 'other 2.0');
    assert.match(made.stderr, /The signature of .*Release is not checked/);
  }
  const one = await create(url, '--deb-package', 'hello');
  assert.deepEqual(Object.keys(policyOf(one).digests), ['/usr/bin/hello']);
  const none = await create(url, '--deb-package', 'hello,nothing');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /has no package nothing/);
});

test('a package that is another than the index says is told by its name in the repository, whatever it is', async (t) => {
  const { directory } = await makeRepository(t);
  const { url } = await serveFiles(t, directory);
  for (const content of [OTHER, Buffer.concat([HELLO, Buffer.from('x')]), 'no package']) {
    writeFileSync(path.join(directory, 'pool/hello.deb'), content);
    const refused = await create(url);
    assert.equal(refused.code, 1);
    assert.ok(refused.stderr.includes(`${url}/pool/hello.deb: Its SHA-256 is ${sha256(content)}, it should be`));
  }
});

test('a package of a server is fetched once, as long as the index names it by the same digest', async (t) => {
  const { directory } = await makeRepository(t);
  const { url, requests } = await serveFiles(t, directory);
  const cache = path.join(folder(t), 'digests');
  let seen = 0;
  const fetched = () => {
    const since = requests.slice(seen);
    seen = requests.length;
    return since.filter((one) => one.url.endsWith('.deb')).length;
  };
  for (const count of [2, 0]) {
    const made = await create(url, '--cache', cache);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, BOTH);
    assert.equal(policyOf(made).packages?.[sha256('other')], 'other 2.0');
    assert.equal(fetched(), count);
  }
  // Another algorithm needs the content again, and so does who wants no cache.
  assert.equal((await create(url, '--cache', cache, '--algo', 'sha512')).code, 0);
  assert.equal(fetched(), 2);
  assert.equal((await create(url, '--no-cache')).code, 0);
  assert.equal(fetched(), 2);
});

test('a package that is asked for may be in any of several sources', async (t) => {
  const { directory } = await makeRepository(t);
  const deb = path.join(directory, 'update.deb');
  writeFileSync(deb, debArchive('update', '1', [{ path: 'opt/update', content: 'update' }]));
  const made = await create(directory, '--deb', deb, '--deb-package', 'hello,update');
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual(Object.keys(policyOf(made).digests), ['/usr/bin/hello', '/opt/update']);
});

test('options of a line of a sources.list name the keys and the architecture', async (t) => {
  const { directory } = await makeRepository(t, await makeSigner());
  const stranger = path.join(directory, 'stranger.asc');
  writeFileSync(stranger, (await makeSigner()).publicKey);
  const line = (options: string) => ['create', 'runtime', '--deb', `deb [${options}] file:${directory} stable main`];
  const made = await runTool(line(`arch=amd64 signed-by=${path.join(directory, 'key.gpg')}`));
  assert.equal(made.code, 0, made.stderr);
  assert.doesNotMatch(made.stderr, /not checked/);
  assert.deepEqual({ ...policyOf(made).digests }, BOTH);
  // What the line says counts, not that other repositories have other keys.
  const key = ['--deb-keyring', path.join(directory, 'key.asc')];
  const refused = await runTool([...line(`arch=amd64 signed-by=${stranger}`), ...key]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /by none of the keys/);
});

test("a signature by one of the operator's keys is enough, in every form", async (t) => {
  const { directory } = await makeRepository(t, await makeSigner());
  const stranger = path.join(directory, 'stranger.asc');
  writeFileSync(stranger, (await makeSigner()).publicKey);
  const release = path.join(directory, 'dists/stable/Release');
  const inRelease = path.join(directory, 'dists/stable/InRelease');
  // While a server is renewed, Release and its signature may be of different days.
  const mixed = () => writeFileSync(release, 'of another day');
  const { release: right } = await makeRepository(t);
  const detached = () => {
    writeFileSync(release, right);
    rmSync(inRelease);
  };
  for (const change of [() => {}, mixed, detached]) {
    change();
    for (const key of ['key.asc', 'key.gpg']) {
      const made = await create(directory, '--deb-keyring', stranger, '--deb-keyring', path.join(directory, key));
      assert.equal(made.code, 0, made.stderr);
      assert.deepEqual({ ...policyOf(made).digests }, BOTH);
      assert.ok(!made.stderr.includes('not checked'));
    }
  }
});

test('with keys, nothing passes without a signature by one of them', async (t) => {
  const [signer, stranger] = [await makeSigner(), await makeSigner()];
  const { directory, release } = await makeRepository(t, signer);
  const key = path.join(directory, 'key.asc');
  const dists = path.join(directory, 'dists/stable');
  const refused = async (message: RegExp, keyring = key) => {
    const { code, stdout, stderr } = await create(directory, '--deb-keyring', keyring);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  };
  const strangersKey = path.join(directory, 'stranger.asc');
  writeFileSync(strangersKey, stranger.publicKey);
  await refused(/signature of .*InRelease is not good: it is by none of the keys/, strangersKey);
  rmSync(path.join(dists, 'InRelease'));
  await refused(/signature of .*Release is not good: it is by none of the keys/, strangersKey);
  writeFileSync(path.join(dists, 'Release'), `${release}\n`);
  await refused(/signature of .*Release is not good/);
  writeFileSync(path.join(dists, 'Release'), release);
  writeFileSync(path.join(dists, 'Release.gpg'), 'no signature');
  await refused(/signature of .*Release is not good/);
  rmSync(path.join(dists, 'Release.gpg'));
  await refused(/is not signed: there is no .*Release\.gpg/);
  rmSync(path.join(dists, 'Release'));
  await refused(/This is no Debian repository/);
  writeFileSync(key, 'no key');
  await refused(/key\.asc has no OpenPGP key that can be read/);
});

test('a clear-signed Release counts as far as it is signed, and no further', async (t) => {
  const signer = await makeSigner();
  const { directory, release } = await makeRepository(t, signer);
  const dists = path.join(directory, 'dists/stable');
  const inline = await signer.clearSigned('Origin: Test\n');
  for (const text of [`${release}\n${inline}`, `${inline}\n${release}`]) {
    writeFileSync(path.join(dists, 'InRelease'), text);
    const { code, stderr } = await create(directory, '--deb-keyring', path.join(directory, 'key.asc'));
    assert.equal(code, 1);
    assert.match(stderr, /InRelease is not good|There is no index of packages/);
  }
});

test('an index that is replaced while it is asked for is found under its digest', async (t) => {
  const { directory, release } = await makeRepository(t);
  const index = path.join(directory, 'dists/stable/main/binary-amd64');
  const [, hex = ''] = /([0-9a-f]{64})/.exec(release) ?? [];
  writeFiles(index, { [`by-hash/SHA256/${hex}`]: readFileSync(path.join(index, 'Packages.gz')) });
  writeFileSync(path.join(index, 'Packages.gz'), 'of another day');
  assert.match((await create(directory)).stderr, /Packages\.gz has the SHA-256/);
  writeFileSync(path.join(directory, 'dists/stable/Release'), `Acquire-By-Hash: yes\n${release}`);
  const made = await create(directory);
  assert.deepEqual({ ...policyOf(made).digests }, BOTH);
});

test('packages for all architectures have an index of their own where Release says so', async (t) => {
  const { directory, release } = await makeRepository(t);
  const dists = path.join(directory, 'dists/stable');
  const index = `Package: every\nVersion: 1\nFilename: pool/every.deb\nSHA256: ${sha256(OTHER)}\n`;
  writeFiles(directory, { 'pool/every.deb': OTHER, 'dists/stable/main/binary-all/Packages': index });
  const withAll = `${release} ${sha256(index)} ${index.length} main/binary-all/Packages\n`;
  const isFound = async (fields: string) => {
    writeFileSync(path.join(dists, 'Release'), fields + withAll);
    return (await create(directory, '--deb-package', 'every')).code === 0;
  };
  assert.equal(await isFound('Architectures: all amd64\n'), true);
  assert.equal(await isFound('Architectures: amd64\n'), false);
  assert.equal(await isFound('Architectures: all amd64\nNo-Support-for-Architecture-all: Packages\n'), false);
});

test('a signed repository that is out of date is taken only if that is wanted', async (t) => {
  const signer = await makeSigner();
  const { directory, release } = await makeRepository(t, signer);
  const inRelease = path.join(directory, 'dists/stable/InRelease');
  const args = [directory, '--deb-keyring', path.join(directory, 'key.asc')] as const;
  writeFileSync(inRelease, await signer.clearSigned(`Valid-Until: Mon, 02 Feb 2026 00:00:00 UTC\n${release}`));
  const refused = await create(...args);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is out of date: it was valid until Mon, 02 Feb 2026/);
  assert.equal((await create(...args, '--deb-accept-expired')).code, 0);
  writeFileSync(inRelease, await signer.clearSigned(`Valid-Until: Thu, 05 Feb 2026 00:00:00 UTC\n${release}`));
  assert.equal((await create(...args)).code, 0);
});

const LINES = (directory: string) => `# a comment
deb-src file:${directory} stable main
deb [arch=amd64 signed-by=${directory}/key.gpg] file:${directory} stable main # and another
`;
const PARAGRAPHS = (directory: string, signer: Signer) => `# Types: deb
Enabled: no
Types: deb
URIs: file:/nowhere
Suites: stable
Components: main

Types: deb deb-src
# of the distribution
URIs: file:${directory}
Suites: stable
Components: main
Architectures: amd64
Signed-By:
${signer.publicKey.trim().replace(/^$/gm, '.').replace(/^/gm, ' ')}
`;

test('files of apt name repositories with their keys', async (t) => {
  const signer = await makeSigner();
  const { directory } = await makeRepository(t, signer);
  const files = { 'x.list': LINES(directory), 'x.sources': PARAGRAPHS(directory, signer) };
  writeFiles(directory, files);
  for (const name of Object.keys(files)) {
    const made = await runTool(['create', 'runtime', '--deb', path.join(directory, name)]);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, BOTH);
    assert.doesNotMatch(made.stderr, /not checked/);
  }
  writeFileSync(path.join(directory, 'x.sources'), PARAGRAPHS(directory, await makeSigner()));
  const refused = await runTool(['create', 'runtime', '--deb', path.join(directory, 'x.sources')]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /by none of the keys/);
});

for (const [content, code, message] of [
  ['deb-src http://h/ stable main', 1, /x\.sources names no repository of packages/],
  ['Types: deb\nURIs: http://h/\nSuites: stable', 2, /a repository is given as/],
  ['Types: deb\nURIs: http://h/\nSuites: stable\nComponents: x\nSigned-By: 0123ABCD', 2, /0123ABCD of --deb names no/],
  [
    'Types: deb\nURIs: http://h/\nSuites: x/\nSigned-By: -----BEGIN PGP PUBLIC KEY BLOCK-----',
    1,
    /The key in .*x\.sources has no OpenPGP key/,
  ],
] as const) {
  test(`a file of apt is refused with its name: ${JSON.stringify(content)}`, async (t) => {
    const file = path.join(folder(t), 'x.sources');
    writeFileSync(file, content);
    const refused = await runTool(['create', 'runtime', '--deb', file]);
    assert.equal(refused.code, code);
    assert.match(refused.stderr, message);
  });
}

for (const [what, damage, message] of [
  ['an index', 'dists/stable/main/binary-amd64/Packages.gz', /Packages\.gz has the SHA-256 .*, Release says/],
  ['a package', 'pool/other.deb', /Its SHA-256 is/],
] as const) {
  test(`${what} that is not what the signed metadata say is refused`, async (t) => {
    const { directory } = await makeRepository(t);
    writeFileSync(
      path.join(directory, damage),
      debArchive('other', '2.0', [{ path: './usr/bin/other', content: 'evil' }]),
    );
    const { code, stdout, stderr } = await create(directory);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}

test('a repository that names files outside of it is refused', async (t) => {
  const directory = folder(t);
  writeFiles(directory, {
    'repo/Packages': `Package: x\nVersion: 1\nFilename: ../x.deb\nSHA256: ${sha256(HELLO)}\n`,
    'x.deb': HELLO,
  });
  const made = await runTool(['create', 'runtime', '--deb', `${directory}/repo ./`]);
  assert.equal(made.code, 1);
  assert.match(made.stderr, /names a file outside of it/);
});

test('what is no repository is refused', async (t) => {
  const directory = folder(t);
  const { url } = await serveFiles(t, directory);
  for (const where of [directory, url]) assert.match((await create(where)).stderr, /This is no Debian repository/);
  const closed = `http://127.0.0.1:${await freePort()}`;
  assert.match((await create(closed)).stderr, /Downloading http.* failed: .*ECONNREFUSED/);
});

test('a repository made by apt-ftparchive and signed by gpg is read', {
  skip: skipWithout('dpkg-deb', 'apt-ftparchive', 'gpg'),
}, async (t) => {
  const directory = folder(t);
  const control = 'Package: real\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n';
  writeFiles(directory, {
    'tree/DEBIAN/control': control,
    'tree/usr/bin/real': 'real',
    'repo/pool/x': '',
    'gnupg/x': '',
  });
  const run = (program: string, ...args: readonly string[]) =>
    execFileSync(program, args, {
      cwd: path.join(directory, 'repo'),
      env: { ...process.env, GNUPGHOME: path.join(directory, 'gnupg') },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  execFileSync('chmod', ['700', path.join(directory, 'gnupg')]);
  run('dpkg-deb', '--root-owner-group', '-b', '../tree', 'pool/real.deb');
  const index = run('apt-ftparchive', 'packages', 'pool');
  writeFiles(directory, { 'repo/dists/s/main/binary-amd64/Packages': index });
  execFileSync('xz', ['-k', path.join(directory, 'repo/dists/s/main/binary-amd64/Packages')]);
  const release = run('apt-ftparchive', 'release', 'dists/s');
  writeFiles(directory, { 'repo/dists/s/Release': release });
  // The key must be older than the clock of these tests.
  const gpg = (...args: readonly string[]) => run('gpg', '--batch', '--faked-system-time', '20260101T000000', ...args);
  gpg('--passphrase', '', '--quick-gen-key', 'test@example.org', 'ed25519', 'sign', 'never');
  gpg('--clearsign', '-o', 'dists/s/InRelease', 'dists/s/Release');
  writeFiles(directory, { 'key.gpg': gpg('--export') });
  const source = `${directory}/repo s main`;
  const args = ['--deb', source, '--deb-arch', 'amd64', '--deb-keyring', path.join(directory, 'key.gpg')];
  const made = await runTool(['create', 'runtime', ...args]);
  run('gpgconf', '--kill', 'all');
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual({ ...policyOf(made).digests }, { '/usr/bin/real': [sha256('real')] });
});
