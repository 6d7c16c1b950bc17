import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type FixtureEntry, tarArchive } from '../archive/archives.fixture.ts';
import { folder, policyOf, runTool, sha256, skipWithout, writeFiles } from '../tool.fixture.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar';

/** The files of an image layout under construction. */
class Layout {
  readonly files: { [name: string]: string | Buffer } = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' };

  blob(mediaType: string, content: string | Buffer) {
    const hex = sha256(content);
    this.files[`blobs/sha256/${hex}`] = content;
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  }

  image(layers: readonly (readonly FixtureEntry[])[], pack: (bytes: Buffer) => Buffer = gzipSync, suffix = '+gzip') {
    const config = this.blob('application/vnd.oci.image.config.v1+json', '{}');
    const blobs = layers.map((entries) => this.blob(LAYER + suffix, pack(tarArchive(entries))));
    return this.blob(MANIFEST, JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config, layers: blobs }));
  }

  index(manifests: readonly object[]): this {
    this.files['index.json'] = JSON.stringify({ schemaVersion: 2, manifests });
    return this;
  }
}

const create = (image: string, ...args: readonly string[]) => runTool(['create', 'runtime', '--oci', image, ...args]);

const LAYERS: readonly (readonly FixtureEntry[])[] = [
  [
    { path: 'bin', flag: '2', target: 'usr/bin' },
    { path: 'usr/', flag: '5' },
    { path: 'usr/bin/', flag: '5' },
    { path: 'usr/bin/sh', content: 'sh' },
    { path: 'usr/bin/bash', flag: '1', target: 'usr/bin/sh' },
    { path: 'etc/old/a', content: 'a' },
    { path: 'etc/old/b', content: 'b' },
    { path: 'etc/removed', content: 'r' },
  ],
  [
    { path: 'etc/.wh.removed' },
    { path: 'etc/old/new', content: 'new' },
    { path: 'etc/old/.wh..wh..opq' },
    { path: 'bin/tool', content: 'tool 1' },
  ],
  [{ path: 'usr/bin/tool', content: 'tool 2' }],
];

const FILES = {
  '/etc/old/new': [sha256('new')],
  '/usr/bin/bash': [sha256('sh')],
  '/usr/bin/sh': [sha256('sh')],
  '/usr/bin/tool': [sha256('tool 2')],
};

test('a layer is read once, in whatever images it is', async (t) => {
  const [first, second] = [new Layout(), new Layout()];
  first.index([first.image(LAYERS)]);
  second.index([second.image([...LAYERS, [{ path: 'usr/bin/more', content: 'more' }]])]);
  const directory = folder(t);
  const cache = path.join(directory, 'digests');
  const files = async (name: string, layout: Layout) => {
    writeFiles(path.join(directory, name), layout.files);
    const made = await create(path.join(directory, name), '--cache', cache);
    assert.equal(made.code, 0, made.stderr);
    return { ...policyOf(made).digests };
  };
  assert.deepEqual(await files('first', first), FILES);
  const kept = readdirSync(`${cache}.packages`);
  assert.equal(kept.length, 3);
  // Only what is kept can say this.
  for (const name of kept) {
    const place = path.join(`${cache}.packages`, name);
    writeFileSync(place, readFileSync(place, 'utf8').replace(sha256('tool 2'), sha256('kept')));
  }
  const wanted = { ...FILES, '/usr/bin/tool': [sha256('kept')] };
  assert.deepEqual(await files('first', first), wanted);
  assert.deepEqual(await files('second', second), { ...wanted, '/usr/bin/more': [sha256('more')] });
  for (const name of kept) writeFileSync(path.join(`${cache}.packages`, name), '[{"path":"x","type":"file"}]');
  assert.deepEqual(await files('first', first), FILES);
});

for (const [name, pack, suffix] of [
  ['gzip', gzipSync, '+gzip'],
  ['zstd', zstdCompressSync, '+zstd'],
  ['plain', (bytes: Buffer) => bytes, ''],
] as const) {
  test(`the files of an image are those that its ${name} layers leave, where the container sees them`, async (t) => {
    const layout = new Layout();
    layout.index([layout.image(LAYERS, pack, suffix)]);
    const directory = folder(t);
    writeFiles(directory, layout.files);
    const made = await create(directory);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual({ ...policyOf(made).digests }, FILES);
  });
}

test('an image in a tar archive is read like one in a directory', { skip: skipWithout('tar') }, async (t) => {
  const layout = new Layout();
  layout.index([layout.image(LAYERS)]);
  const directory = folder(t);
  writeFiles(path.join(directory, 'layout'), layout.files);
  execFileSync('tar', ['-cf', 'image.tar', '-C', 'layout', '.'], { cwd: directory });
  const made = await create(path.join(directory, 'image.tar'), '--algo', 'sha256');
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual({ ...policyOf(made).digests }, FILES);
});

test('of an image for several platforms that of this machine is taken, or the one that is named', async (t) => {
  const layout = new Layout();
  const image = (name: string) => layout.image([[{ path: name, content: name }]]);
  const nested = layout.blob(
    INDEX,
    JSON.stringify({
      manifests: [
        { ...image('s390x'), platform: { os: 'linux', architecture: 's390x' } },
        { ...image('armv7'), platform: { os: 'linux', architecture: 'arm', variant: 'v7' } },
        { ...image('provenance'), platform: { os: 'unknown', architecture: 'unknown' } },
      ],
    }),
  );
  layout.index([nested]);
  const directory = folder(t);
  writeFiles(directory, layout.files);
  const namesOf = async (platform: string) =>
    Object.keys(policyOf(await create(directory, '--oci-platform', platform)).digests);
  assert.deepEqual(await namesOf('linux/s390x'), ['/s390x']);
  assert.deepEqual(await namesOf('linux/arm'), ['/armv7']);
  const other = await create(directory, '--oci-platform', 'linux/riscv64');
  assert.equal(other.code, 1);
  assert.match(
    other.stderr,
    /no image for linux\/riscv64: give one of --oci-platform linux\/s390x, --oci-platform linux\/arm\/v7/,
  );
});

test('of several images in a layout the one that is named is taken', async (t) => {
  const layout = new Layout();
  const image = (name: string, refName: string) => ({
    ...layout.image([[{ path: name, content: name }]]),
    annotations: { 'org.opencontainers.image.ref.name': refName },
  });
  layout.index([image('one', '1.0'), image('two', '2.0'), image('two', 'latest')]);
  const directory = folder(t);
  writeFiles(directory, layout.files);
  const namesOf = async (place: string) => Object.keys(policyOf(await create(place)).digests);
  assert.deepEqual(await namesOf(`${directory}:1.0`), ['/one']);
  assert.deepEqual(await namesOf(`${directory}:latest`), ['/two']);
  const unnamed = await create(directory);
  assert.equal(unnamed.code, 1);
  assert.match(unnamed.stderr, /give one of --oci \S+:1\.0, --oci \S+:2\.0, --oci \S+:latest/);
  const unknown = await create(`${directory}:3.0`);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /no image manifest 3\.0: it has 1\.0, 2\.0, latest/);
  layout.index([image('two', '2.0'), image('two', 'latest')]);
  writeFiles(directory, layout.files);
  assert.deepEqual(await namesOf(directory), ['/two']);
});

for (const [what, change, message] of [
  ['no layout', (layout: Layout) => delete layout.files['index.json'], /no OCI image layout/],
  ['no manifest', (layout: Layout) => layout.index([]), /has no image manifest/],
  [
    'a list that is none',
    (layout: Layout) => Object.assign(layout.files, { 'index.json': '{"manifests": 1}' }),
    /not a list of descriptors/,
  ],
  [
    'a digest of another kind',
    (layout: Layout) => layout.index([{ mediaType: MANIFEST, digest: 'sha256:../../x', size: 1 }]),
    /digests like sha256:\.\.\/\.\.\/x are not supported/,
  ],
  [
    'a blob that is not what its name says',
    (layout: Layout) => {
      for (const name of Object.keys(layout.files)) {
        if (name.startsWith('blobs/') && !String(layout.files[name]).startsWith('{')) {
          layout.files[name] = gzipSync(tarArchive([{ path: 'evil', content: 'evil' }]));
        }
      }
    },
    /Its SHA-256 is .*, it should be/,
  ],
  [
    'a layer of a type that is not known',
    (layout: Layout) => {
      const layers = [layout.blob('application/x-layer', 'x')];
      layout.index([layout.blob(MANIFEST, JSON.stringify({ layers }))]);
    },
    /layers of type application\/x-layer are not supported/,
  ],
] as const) {
  test(`refused: ${what}`, async (t) => {
    const layout = new Layout();
    layout.index([layout.image([LAYERS[0] ?? []])]);
    change(layout);
    const directory = folder(t);
    writeFiles(directory, layout.files);
    const { code, stdout, stderr } = await create(directory);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}
