import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type NewEntry, storedZip } from '@keylime/payload/archive';
import { encryptPayload, IV_BYTES } from '@keylime/payload/encryption';
import { KEY_BYTES } from '@keylime/payload/key-split';
import { openLog } from '@keylime/service/log';
import { checkPayloadSettings, installPayload, type PayloadSettings } from './payload.ts';
import { removeOthers } from './payload-files.ts';
import { MAX_RUNS, runDueScript } from './payload-script.ts';

const isRoot = process.getuid?.() === 0;
const base = mkdtempSync('/dev/shm/keylime-payload-');
after(() => rmSync(base, { recursive: true }));

const SETTINGS: PayloadSettings = {
  enc_keyname: 'derived_tci_key',
  dec_payload_file: 'decrypted_payload',
  extract_payload_zip: true,
  payload_script: 'autorun.sh',
  payload_script_timeout: 10,
  enable_agent_mtls: true,
  enable_insecure_payload: false,
};

/** A secure folder, and what arrives in it. */
function machine(secureFolder = mkdtempSync(join(base, 'secure-'))) {
  const lines: string[] = [];
  const log = openLog({ name: 'agent', destination: { write: (line) => lines.push(line) } });
  const unzipped = join(secureFolder, 'unzipped');
  const run = (more: Partial<PayloadSettings> = {}, signal = new AbortController().signal) =>
    runDueScript({ secureFolder, settings: { ...SETTINGS, ...more }, log, signal });
  const deliver = async (
    plaintext: Buffer | undefined,
    more: Partial<PayloadSettings> & { readonly k?: Buffer; readonly leaveScript?: boolean } = {},
  ) => {
    const k = randomBytes(KEY_BYTES);
    const payload = plaintext && encryptPayload(k, plaintext, randomBytes(IV_BYTES));
    const settings = { ...SETTINGS, ...more };
    if (await installPayload({ k: more.k ?? k, payload, secureFolder, settings, log })) {
      if (!more.leaveScript) await run(more);
    }
    return k;
  };
  return {
    secureFolder,
    unzipped,
    deliver,
    run,
    said: () => lines.join(''),
    read: (name: string) => readFileSync(join(unzipped, name), 'utf8'),
  };
}

const zip = (files: Readonly<Record<string, string>>): Promise<Buffer> =>
  storedZip(
    Object.entries(files).map(([name, content]): NewEntry => ({ name, content: Buffer.from(content) })),
    new Date(),
  );

test('key, payload and files are in place, for their owner alone, and the script has run among them', async () => {
  const one = machine();
  const payload = await zip({
    'autorun.sh': 'pwd -P; ls; echo oops >&2; touch made',
    'cert/a.crt': 'a',
    action_list: 'act, other\n',
    act: '',
  });
  const k = await one.deliver(payload);
  assert.deepEqual(readFileSync(join(one.unzipped, 'derived_tci_key')), k);
  assert.deepEqual(readFileSync(join(one.unzipped, 'decrypted_payload')), payload);
  assert.equal(one.read('cert/a.crt'), 'a');
  const mode = (name: string) => statSync(join(one.unzipped, name)).mode & 0o7777;
  for (const name of ['derived_tci_key', 'decrypted_payload', 'cert/a.crt', 'action_list']) {
    assert.equal(mode(name), 0o600, name);
  }
  for (const name of ['.', 'cert', 'autorun.sh', 'act']) assert.equal(mode(name), 0o700, name);
  assert.equal(existsSync(join(one.unzipped, 'made')), true);
  const said = one.said();
  assert.match(said, /Executing payload script autorun\.sh/);
  assert.match(said, new RegExp(`INFO - autorun\\.sh: ${one.secureFolder}/payload-`));
  assert.match(said, /WARNING - autorun\.sh: oops/);
  assert.match(said, /INFO - Payload script autorun\.sh succeeded durationMs=\d+/);
});

test('a script that fails is told with its exit status, and so is one that hangs', async () => {
  const one = machine();
  await one.deliver(await zip({ 'autorun.sh': 'exit 7' }));
  assert.match(one.said(), /ERROR - Payload script autorun\.sh failed: exit status 7/);
  await one.deliver(await zip({ 'autorun.sh': 'sleep 100' }), { payload_script_timeout: 0.2 });
  assert.match(one.said(), /ERROR - Payload script autorun\.sh failed: stopped after 0\.2 s/);
});

test('no script runs where none is wanted or there is none', async () => {
  const one = machine();
  await one.deliver(await zip({ 'autorun.sh': 'touch made' }), { payload_script: '' });
  await one.deliver(await zip({ 'other.sh': 'touch made' }));
  assert.equal(existsSync(join(one.unzipped, 'made')), false);
  assert.doesNotMatch(one.said(), /Executing/);
  assert.match(one.said(), /The payload has no script name=autorun\.sh/);
});

test('a payload that is no archive, or is not to be unpacked, is kept as a file', async () => {
  const one = machine();
  await one.deliver(Buffer.from('just text'));
  assert.equal(one.read('decrypted_payload'), 'just text');
  assert.deepEqual(readdirSync(one.unzipped).sort(), ['decrypted_payload', 'derived_tci_key']);
  await one.deliver(await zip({ 'autorun.sh': 'touch made' }), { extract_payload_zip: false });
  assert.deepEqual(readdirSync(one.unzipped).sort(), ['decrypted_payload', 'derived_tci_key']);
});

test('a key without a payload is written alone', async () => {
  const one = machine();
  const k = await one.deliver(undefined);
  assert.deepEqual(readdirSync(one.unzipped), ['derived_tci_key']);
  assert.deepEqual(readFileSync(join(one.unzipped, 'derived_tci_key')), k);
});

test('a new payload takes the place of the old one, and nothing of that remains', async () => {
  const one = machine();
  await one.deliver(await zip({ a: 'old', b: 'old' }));
  const before = readlinkSync(one.unzipped);
  await one.deliver(await zip({ a: 'new' }));
  assert.equal(one.read('a'), 'new');
  assert.equal(existsSync(join(one.unzipped, 'b')), false);
  assert.notEqual(readlinkSync(one.unzipped), before);
  assert.equal(readdirSync(one.secureFolder).length, 2);
});

test('at every moment there is a whole payload: the old one or the new one', async () => {
  const one = machine();
  const files = (word: string) => Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`f${n}`, word]));
  await one.deliver(await zip(files('old')));
  let isOver = false;
  const delivery = one.deliver(await zip(files('new'))).finally(() => {
    isOver = true;
  });
  let looks = 0;
  while (!isOver) {
    const folder = readlinkSync(one.unzipped);
    const names = readdirSync(join(one.secureFolder, folder)).filter((name) => name.startsWith('f'));
    // Once another payload counts, the one that was read here may be gone.
    if (readlinkSync(one.unzipped) === folder) assert.equal(names.length, 40);
    looks++;
    await new Promise(setImmediate);
  }
  await delivery;
  assert.ok(looks > 5);
  assert.equal(one.read('f0'), 'new');
});

test('a folder that the existing agent left in the place of the link is replaced', async () => {
  const one = machine();
  mkdirSync(one.unzipped);
  writeFileSync(join(one.unzipped, 'old'), '');
  await one.deliver(await zip({ a: 'new' }));
  assert.equal(one.read('a'), 'new');
  assert.equal(lstatSync(one.unzipped).isSymbolicLink(), true);
  assert.equal(readdirSync(one.secureFolder).length, 2);
});

test('[MUST] a payload that does not decrypt, and an archive that is refused, leave all as it was', async () => {
  const one = machine();
  await one.deliver(await zip({ a: 'old' }));
  await one.deliver(await zip({ a: 'new', 'autorun.sh': 'touch made' }), { k: randomBytes(KEY_BYTES) });
  assert.match(one.said(), /ERROR - The payload does not decrypt.*problem=not_authentic/);
  const slip = (await zip({ 'QQQ/x': 'new' })).toString('latin1').replaceAll('QQQ/x', '../.x');
  await one.deliver(Buffer.from(slip, 'latin1'));
  assert.match(one.said(), /ERROR - The archive of the payload is refused.*kind=name_leaves_folder entry=\.\.\/\.x/);
  await one.deliver(await zip({ a: 'new', derived_tci_key: 'mine' }));
  assert.match(one.said(), /kind=name_reserved entry=derived_tci_key/);
  assert.equal(one.read('a'), 'old');
  assert.deepEqual(readdirSync(one.secureFolder).length, 2);
  assert.equal(existsSync(join(one.secureFolder, '.x')), false);
});

test('[MUST] without mutual TLS nothing is written unless that was asked for', async () => {
  const one = machine();
  const payload = await zip({ 'autorun.sh': 'touch made' });
  await one.deliver(payload, { enable_agent_mtls: false });
  assert.deepEqual(readdirSync(one.secureFolder), []);
  assert.match(one.said(), /WARNING - A payload arrived and is not written/);
  await one.deliver(payload, { enable_agent_mtls: false, enable_insecure_payload: true });
  assert.equal(existsSync(join(one.unzipped, 'made')), true);
});

test('a payload for which there is no room leaves the one before', { skip: !isRoot && 'needs root' }, async () => {
  const small = mkdtempSync(join(base, 'small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small]);
  try {
    const one = machine(small);
    await one.deliver(await zip({ a: 'old' }));
    await one.deliver(await zip({ a: 'new', big: 'x'.repeat(100_000) }));
    assert.match(one.said(), /ERROR - The payload does not fit beside the one before, which stays: raise secure_size/);
    assert.equal(one.read('a'), 'old');
    assert.equal(readdirSync(small).length, 2);
    await one.deliver(await zip({ a: 'newer' }));
    assert.equal(one.read('a'), 'newer');
  } finally {
    execFileSync('umount', [small]);
  }
});

test('what a process left that was killed while it wrote is removed', async () => {
  const one = machine();
  await one.deliver(await zip({ a: 'old' }));
  mkdirSync(join(one.secureFolder, 'payload-0123'));
  writeFileSync(join(one.secureFolder, 'unzipped.0123'), '');
  await removeOthers(one.secureFolder);
  assert.equal(readdirSync(one.secureFolder).length, 2);
  assert.equal(one.read('a'), 'old');
});

test('[MUST] a script that nobody saw end is run again, and one that ended is not', async () => {
  const one = machine();
  const home = one.secureFolder;
  const script = `echo run >> ${home}/runs; [ -e ${home}/go ] || exec sleep 100`;
  await one.deliver(await zip({ 'autorun.sh': script }), { leaveScript: true });
  await removeOthers(home);
  const stopping = new AbortController();
  const running = one.run({}, stopping.signal);
  while (!existsSync(join(home, 'runs'))) await new Promise(setImmediate);
  stopping.abort();
  assert.equal(await running, true);
  assert.match(one.said(), /stopped because the agent stops; it is run again when the agent starts/);
  await removeOthers(home);
  writeFileSync(join(home, 'go'), '');
  assert.equal(await one.run(), true);
  assert.match(
    one.said(),
    /WARNING - Payload script autorun\.sh was cut off when the agent ended: it is run again runs=1/,
  );
  assert.match(one.said(), /Payload script autorun\.sh succeeded/);
  assert.equal(await one.run(), false);
  assert.equal(readFileSync(join(home, 'runs'), 'utf8'), 'run\nrun\n');
  assert.deepEqual(readdirSync(home).length, 4, 'no mark is left');
});

test('a script that was signalled is run again, one that failed or timed out is not', async () => {
  for (const [script, again, more] of [
    ['kill -TERM $$', true, {}],
    ["sh -c 'kill -TERM $$'", true, {}],
    ['exit 7', false, {}],
    ['sleep 100', false, { payload_script_timeout: 0.2 }],
  ] as const) {
    const one = machine();
    await one.deliver(await zip({ 'autorun.sh': script }), more);
    assert.match(one.said(), /ERROR - Payload script autorun\.sh failed/);
    assert.equal(await one.run(more), again, script);
  }
});

test('[MUST] a script that ends the agent each time is not run for ever', async () => {
  const one = machine();
  await one.deliver(await zip({ 'autorun.sh': 'kill -KILL $$' }), { leaveScript: true });
  for (let n = 0; n < MAX_RUNS; n++) assert.equal(await one.run(), true);
  assert.equal(await one.run(), false);
  assert.match(one.said(), /ERROR - Payload script autorun\.sh was cut off 3 times and is not run again/);
  assert.equal(readdirSync(one.secureFolder).length, 2);
});

test('a new payload takes the place of one whose script was cut off, and brings its own', async () => {
  const one = machine();
  await one.deliver(await zip({ 'autorun.sh': 'touch old' }), { leaveScript: true });
  await one.deliver(await zip({ 'autorun.sh': 'touch new' }));
  assert.deepEqual([existsSync(join(one.unzipped, 'old')), existsSync(join(one.unzipped, 'new'))], [false, true]);
  assert.equal(readdirSync(one.secureFolder).length, 2);
});

test('neither key nor payload is in the log', async () => {
  const one = machine();
  const k = await one.deliver(await zip({ a: 'the-secret' }));
  for (const form of ['hex', 'base64'] as const) assert.equal(one.said().includes(k.toString(form)), false);
  assert.equal(one.said().includes('the-secret'), false);
});

test('[MUST] names in the settings that would leave the folder are refused', () => {
  checkPayloadSettings(SETTINGS);
  checkPayloadSettings({ ...SETTINGS, payload_script: 'scripts/run.sh' });
  for (const [changes, option] of [
    [{ enc_keyname: '../key' }, /^enc_keyname: /],
    [{ enc_keyname: '' }, /^enc_keyname: /],
    [{ dec_payload_file: '/etc/passwd' }, /^dec_payload_file: /],
    [{ dec_payload_file: 'derived_tci_key' }, /^dec_payload_file: /],
    [{ payload_script: '../run.sh' }, /^payload_script: /],
    [{ payload_script: '/bin/true' }, /^payload_script: /],
  ] as const) {
    assert.throws(() => checkPayloadSettings({ ...SETTINGS, ...changes }), {
      code: 'payload_settings',
      message: option,
    });
  }
});
