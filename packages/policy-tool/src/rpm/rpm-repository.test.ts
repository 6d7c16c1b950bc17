import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { serveFiles } from '../http-server.fixture.ts';
import { makeSigner, type Signer } from '../signer.fixture.ts';
import { folder, policyOf, runTool, sha256, skipWithout, writeFiles } from '../tool.fixture.ts';
import { type RpmFixture, rpmPackage, rpmRepository } from './rpm.fixture.ts';

const PACKAGES: readonly RpmFixture[] = [
  {
    name: 'hello',
    files: {
      '/usr/bin/hello': sha256('hello'),
      '/usr/bin/link': '',
      '/usr/share/a b': sha256('ab'),
      '/lib/modules/x.ko': sha256('module'),
    },
  },
  { name: 'other', epoch: 2, files: { '/usr/bin/other': sha256('other'), '/old': 'a'.repeat(32) } },
];
const DIGESTS = {
  '/lib/modules/x.ko': [sha256('module')],
  // Where the kernel sees it on a merged system.
  '/usr/lib/modules/x.ko': [sha256('module')],
  '/usr/bin/hello': [sha256('hello')],
  '/usr/bin/other': [sha256('other')],
  '/usr/share/a_b': [sha256('ab')],
};

/** A repository in a directory; `signer` signs its metadata and the headers of its packages. */
async function makeRepository(
  t: TestContext,
  { signer, digests = false }: { readonly signer?: Signer; readonly digests?: boolean } = {},
): Promise<string> {
  const directory = folder(t);
  const sign = (header: Buffer) => signer?.detached(header, 'binary') ?? Promise.reject(new Error('no signer'));
  const packages = PACKAGES.map((one) => (signer ? { ...one, sign } : one));
  writeFiles(directory, await rpmRepository(packages, digests));
  if (signer) {
    const repomd = readFileSync(path.join(directory, 'repodata/repomd.xml'));
    writeFiles(directory, {
      'repodata/repomd.xml.asc': await signer.detached(repomd),
      'repodata/repomd.xml.key': signer.publicKey,
      'key.asc': signer.publicKey,
    });
  }
  return directory;
}

const local = (directory: string, ...args: readonly string[]) =>
  runTool(['create', 'runtime', '--local-rpm-repo', directory, ...args]);
const remote = (url: string, ...args: readonly string[]) =>
  runTool(['create', 'runtime', '--remote-rpm-repo', url, ...args]);

async function refused(run: ReturnType<typeof runTool>, message: RegExp) {
  const { code, stdout, stderr } = await run;
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, message);
}

test('a repository in a directory and on a server gives the digests of its packages', async (t) => {
  for (const digests of [false, true]) {
    const directory = await makeRepository(t, { digests });
    const { url, requests } = await serveFiles(t, directory);
    for (const made of [await local(directory), await remote(url)]) {
      assert.equal(made.code, 0, made.stderr);
      assert.deepEqual({ ...policyOf(made).digests }, DIGESTS);
      assert.equal(policyOf(made).packages?.[sha256('other')], 'other 2:1.2-3');
      assert.match(made.stderr, /The repository is not signed/);
      assert.match(made.stderr, /Skipped 1: MD5 digests of packages \(other.*: \/old\)/);
    }
    const packages = requests.filter(({ url: one }) => one.endsWith('.rpm'));
    // Digests in the metadata make the packages unnecessary; of packages only the headers are asked for.
    assert.equal(packages.length, digests ? 0 : 2);
    for (const { range } of packages) assert.match(range ?? '', /^bytes=0-\d+$/);
  }
});

test("a repository that is signed by the operator's key is taken, its own key is only said to be no proof", async (t) => {
  const directory = await makeRepository(t, { signer: await makeSigner() });
  const { url } = await serveFiles(t, directory);
  for (const run of [() => local(directory), () => remote(url)]) {
    const made = await run();
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stderr, /with a key that comes from the repository itself: give yours with --rpm-key/);
  }
  const key = ['--rpm-key', path.join(directory, 'key.asc')];
  for (const made of [await local(directory, ...key), await remote(url, ...key)]) {
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, DIGESTS);
    assert.ok(!made.stderr.includes('comes from the repository'));
  }
});

test("with the operator's key nothing passes that it did not sign", async (t) => {
  const [signer, stranger] = [await makeSigner(), await makeSigner()];
  const directory = await makeRepository(t, { signer });
  const { url } = await serveFiles(t, directory);
  writeFileSync(path.join(directory, 'stranger.asc'), stranger.publicKey);
  const key = ['--rpm-key', path.join(directory, 'key.asc')];
  const both = async (message: RegExp, args = key) => {
    await refused(local(directory, ...args), message);
    await refused(remote(url, ...args), message);
  };
  await both(/repomd\.xml is not good: it is by none of the keys/, ['--rpm-key', path.join(directory, 'stranger.asc')]);
  const repomd = path.join(directory, 'repodata/repomd.xml');
  const text = readFileSync(repomd, 'utf8');
  writeFileSync(repomd, text.replace('</repomd>', ' </repomd>'));
  await both(/signature of .*repomd\.xml is not good/);
  await both(/signature of .*repomd\.xml is not good/, []);
  writeFileSync(repomd, text);
  // Metadata that are right do not make a header right on the way from a server.
  const hello = path.join(directory, 'Packages/hello.rpm');
  const sign = (header: Buffer) => stranger.detached(header, 'binary');
  const evil = { name: 'hello', files: { '/usr/bin/hello': sha256('evil') } };
  writeFileSync(hello, Buffer.concat([await rpmPackage({ ...evil, sign }), Buffer.alloc(10_000)]));
  await refused(remote(url, ...key), /signature of .*hello\.rpm is not good: it is by none of the keys/);
  await refused(local(directory, ...key), /hello\.rpm has the sha256 .*, the metadata of its repository say/);
  writeFileSync(hello, Buffer.concat([await rpmPackage(evil), Buffer.alloc(10_000)]));
  await refused(remote(url, ...key), /The header of .*hello\.rpm is not signed/);
  // Nor does a signature make one package another, or of today.
  const old = { ...evil, epoch: 1, sign: (header: Buffer) => signer.detached(header, 'binary') };
  writeFileSync(hello, Buffer.concat([await rpmPackage(old), Buffer.alloc(10_000)]));
  await refused(remote(url, ...key), /hello\.rpm is of hello 1:1\.2-3, the metadata say hello 1\.2-3/);
  rmSync(`${repomd}.asc`);
  await both(/The repository is not signed: there is no .*repomd\.xml\.asc/);
});

test('where the metadata need not be signed, every package must be', async (t) => {
  const [signer, stranger] = [await makeSigner(), await makeSigner()];
  // What unsigned metadata say of files must not count.
  const directory = await makeRepository(t, { signer, digests: true });
  const list = path.join(directory, 'repodata/filelists-ext.xml.gz');
  rmSync(list);
  rmSync(path.join(directory, 'repodata/repomd.xml.asc'));
  const { url } = await serveFiles(t, directory);
  const args = ['--rpm-key', path.join(directory, 'key.asc'), '--rpm-unsigned-metadata'];
  for (const made of [await local(directory, ...args), await remote(url, ...args)]) {
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, DIGESTS);
    assert.match(made.stderr, /need not be signed: packages may be missing or old/);
  }
  for (const [sign, message] of [
    [undefined, /The header of .*evil\.rpm is not signed/],
    [(header: Buffer) => stranger.detached(header, 'binary'), /signature of .*evil\.rpm is not good: it is by none/],
  ] as const) {
    const evil = { name: 'evil', files: { '/usr/bin/hello': sha256('evil') }, ...(sign && { sign }) };
    writeFiles(directory, await rpmRepository([evil]));
    for (const name of ['hello', 'other']) rmSync(path.join(directory, `Packages/${name}.rpm`), { force: true });
    await refused(local(directory, ...args), message);
    await refused(remote(url, ...args), message);
  }
  const { code, stderr } = await local(directory, '--rpm-unsigned-metadata');
  assert.equal(code, 2);
  assert.match(stderr, /needs --rpm-key/);
});

test('packages that are asked for by name are taken alone, and must be there', async (t) => {
  for (const digests of [false, true]) {
    const directory = await makeRepository(t, { digests });
    const { url, requests } = await serveFiles(t, directory);
    for (const run of [local.bind(null, directory), remote.bind(null, url)]) {
      const made = await run('--rpm-package', 'other');
      assert.equal(made.code, 0, made.stderr);
      assert.deepEqual(Object.keys(policyOf(made).digests), ['/usr/bin/other']);
      await refused(run('--rpm-package', 'other,nothing'), /has no package nothing\n/);
    }
    assert.ok(!requests.some((request) => request.url.endsWith('hello.rpm')));
  }
  // A package that the metadata do not name says its name itself.
  const directory = await makeRepository(t);
  const listed = path.join(directory, 'Packages/hello.rpm');
  renameSync(listed, path.join(directory, 'Packages/unlisted.rpm'));
  assert.deepEqual(Object.keys(policyOf(await local(directory, '--rpm-package', 'other')).digests), ['/usr/bin/other']);
});

test('a header that does not come whole is told, and nothing else', async (t) => {
  const directory = await makeRepository(t);
  const { url } = await serveFiles(t, directory, { cut: /hello\.rpm$/ });
  await refused(remote(url), /^keylime-policy: Downloading .*hello\.rpm failed: /m);
});

test('a header that was signed is fetched once, and counts for who has the same keys only', async (t) => {
  const [signer, stranger] = [await makeSigner(), await makeSigner()];
  const directory = await makeRepository(t, { signer });
  writeFileSync(path.join(directory, 'stranger.asc'), stranger.publicKey);
  const { url, requests } = await serveFiles(t, directory);
  const cache = ['--cache', path.join(folder(t), 'digests')];
  const keys = (...names: readonly string[]) => names.flatMap((name) => ['--rpm-key', path.join(directory, name)]);
  const fetched = async (...args: readonly string[]): Promise<number> => {
    const before = requests.length;
    const made = await remote(url, ...cache, ...args);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, DIGESTS);
    return requests.slice(before).filter((request) => request.url.endsWith('.rpm')).length;
  };
  assert.equal(await fetched(...keys('key.asc')), 2);
  assert.equal(await fetched(...keys('key.asc')), 0);
  assert.equal(await fetched(...keys('key.asc', 'stranger.asc')), 2);
  // Nobody vouches for what was fetched without a key.
  assert.equal(await fetched(), 2);
  assert.equal(await fetched(), 2);
});

test('the checksum of a package in a directory is not worked out again while the file is the same', async (t) => {
  const directory = await makeRepository(t);
  const cache = path.join(folder(t), 'digests');
  // As if the files had not been changed lately.
  const later = () => new Date(Date.now() + 60_000);
  const args = ['create', 'runtime', '--local-rpm-repo', directory, '--cache', cache] as const;
  assert.equal((await runTool(args, {}, later)).code, 0);
  const hello = sha256(readFileSync(path.join(directory, 'Packages/hello.rpm')));
  // Only the cache can say so.
  writeFileSync(cache, readFileSync(cache, 'latin1').replace(hello, '0'.repeat(64)));
  await refused(runTool(args, {}, later), /hello\.rpm has the sha256 0{64}, the metadata of its repository say/);
  assert.equal((await runTool([...args.slice(0, -2), '--no-cache'], {}, later)).code, 0);
});

test('a package that the signed metadata do not name is left out', async (t) => {
  const directory = await makeRepository(t, { signer: await makeSigner() });
  writeFiles(directory, { 'Packages/x.rpm': await rpmPackage({ name: 'x', files: { '/usr/bin/x': sha256('x') } }) });
  const made = await local(directory, '--rpm-key', path.join(directory, 'key.asc'));
  assert.deepEqual({ ...policyOf(made).digests }, DIGESTS);
  assert.match(made.stderr, /WARNING - Skipped 1: packages that the signed metadata do not name/);
  assert.equal(policyOf(await local(directory)).digests['/usr/bin/x']?.length, 1);
});

for (const [what, damage, message] of [
  ['no repomd.xml', { 'repodata/repomd.xml': undefined }, /This is no RPM repository/],
  ['a repomd.xml that is no XML', { 'repodata/repomd.xml': '<repomd><data' }, /XML of the repository cannot be read/],
  ['no primary metadata', { 'repodata/repomd.xml': '<repomd/>' }, /names no primary metadata/],
  ['metadata that are missing', { 'repodata/primary.xml.gz': undefined }, /there is no .*primary\.xml\.gz/],
  ['metadata of another checksum', { 'repodata/primary.xml.gz': 'x' }, /has the sha256 .*, repomd\.xml says/],
  [
    'metadata outside of the repository',
    {
      'repodata/repomd.xml': `<repomd><data type="primary"><checksum type="sha256">${sha256('')}</checksum><location href="../../../etc/passwd"/></data></repomd>`,
    },
    /names a file outside of it: "\.\.\/\.\.\/\.\.\/etc\/passwd"/,
  ],
  [
    'an entity that grows',
    { 'repodata/repomd.xml': '<!DOCTYPE x [<!ENTITY a "aaaa">]><repomd>&a;</repomd>' },
    /XML of the repository cannot be read/,
  ],
] as const) {
  test(`refused, in a directory and on a server: ${what}`, async (t) => {
    const directory = await makeRepository(t);
    for (const [name, content] of Object.entries<string | undefined>(damage)) {
      if (content === undefined) rmSync(path.join(directory, name));
      else writeFileSync(path.join(directory, name), content);
    }
    await refused(local(directory), message);
    await refused(remote((await serveFiles(t, directory)).url), message);
  });
}

test('an address that is none is a wrong command line', async () => {
  const { code, stderr } = await remote('ftp://example.org');
  assert.equal(code, 2);
  assert.match(stderr, /no http or https address/);
});

test('a repository made by rpmbuild and createrepo_c and signed by gpg is read', {
  skip: skipWithout('rpmbuild', 'createrepo_c', 'gpg'),
}, async (t) => {
  const directory = folder(t);
  const spec = [
    'Name: demo\nVersion: 1.2\nRelease: 3\nSummary: x\nLicense: x\nBuildArch: noarch\n%description\nx',
    '%install\nmkdir -p %{buildroot}/usr/bin\necho hello > %{buildroot}/usr/bin/demo\nln -s demo %{buildroot}/usr/bin/link',
    '%files\n/usr/bin/demo\n/usr/bin/link\n',
  ].join('\n');
  writeFiles(directory, { 'demo.spec': spec, 'repo/x': '', 'gnupg/x': '' });
  execFileSync('chmod', ['700', path.join(directory, 'gnupg')]);
  const run = (program: string, ...args: readonly string[]) =>
    execFileSync(program, args, {
      cwd: directory,
      env: { ...process.env, GNUPGHOME: path.join(directory, 'gnupg') },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  const defined = [`_topdir ${directory}/build`, `_rpmdir ${directory}/repo`, '_source_filedigest_algorithm 8'];
  const sha256Files = [...defined, '_binary_filedigest_algorithm 8'].flatMap((one) => ['--define', one]);
  run('rpmbuild', '-bb', ...sha256Files, 'demo.spec');
  run('createrepo_c', '-q', 'repo');
  // The key must be older than the clock of these tests.
  const gpg = (...args: readonly string[]) => run('gpg', '--batch', '--faked-system-time', '20260101T000000', ...args);
  gpg('--passphrase', '', '--quick-gen-key', 'test@example.org', 'ed25519', 'sign', 'never');
  gpg('--armor', '--detach-sign', '-o', 'repo/repodata/repomd.xml.asc', 'repo/repodata/repomd.xml');
  writeFiles(directory, { 'key.gpg': gpg('--export') });
  const made = await local(path.join(directory, 'repo'), '--rpm-key', path.join(directory, 'key.gpg'));
  run('gpgconf', '--kill', 'all');
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual({ ...policyOf(made).digests }, { '/usr/bin/demo': [sha256('hello\n')] });
  assert.equal(policyOf(made).packages?.[sha256('hello\n')], 'demo 1.2-3');
});
