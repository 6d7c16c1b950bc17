import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { keyVerifyHmac } from '@keylime/payload/key-split';
import { AGENT_ID, openAttackedAgent } from './agent-harness.ts';

/*
 * A payload is root on the machine, in effect. It runs only if the tenant, which has K, made it for this agent, and the
 * verifier, which has V, let it have it; and however it is made, it stays in its folder.
 */
const isRoot = process.getuid?.() === 0;
const CHALLENGE = '/v2.6/keys/verify?challenge=AbC';
const script = (home: string) => `echo run >> ${home}/runs; id -u`;
const runs = (home: string) => {
  const file = path.join(home, 'runs');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').length : 0;
};

test('a payload is delivered, its script runs, and the tenant can see that K arrived', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  assert.equal((await one.get(CHALLENGE)).status, 'Bootstrap key not yet available.');
  const delivery = await one.delivery({ 'autorun.sh': script(one.home), 'secret.txt': 'for this machine' });
  await one.deliver(delivery);
  await one.said(/Payload script autorun\.sh succeeded/);
  assert.equal(runs(one.home), 1);
  assert.equal(readFileSync(path.join(one.unzipped, 'secret.txt'), 'utf8'), 'for this machine');
  assert.deepEqual((await one.get(CHALLENGE)).results, { hmac: keyVerifyHmac(delivery.k, 'AbC') });
});

test('[MUST] U and V are taken only from a client of the trusted CA', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const { ukey, vkey } = await one.delivery({ 'autorun.sh': script(one.home) });
  for (const as of ['nobody', one.stranger] as const) {
    await assert.rejects(one.post('/v2.6/keys/ukey', ukey, as));
    await assert.rejects(one.post('/v2.6/keys/vkey', vkey, as));
  }
  await one.deliver(await one.delivery({ note: 'mine' }));
  await one.said(/A payload is in place/);
  assert.equal(runs(one.home), 0);
});

test('[MUST] halves for another payload key, swapped tags, other halves, and payloads for another agent run nothing', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const files = { 'autorun.sh': script(one.home) };
  const otherKey = createPublicKey(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  const foreign = await one.delivery(files, { payloadKey: otherKey });
  for (const [url, body] of [
    ['/v2.6/keys/ukey', foreign.ukey],
    ['/v2.6/keys/vkey', foreign.vkey],
  ] as const) {
    const { code, status } = await one.post(url, body);
    assert.deepEqual([code, status.split(':')[0]], [400, 'Failed to decrypt encrypted_key']);
  }
  const [first, second] = [await one.delivery(files), await one.delivery(files)];
  await one.deliver({ ...first, ukey: { ...first.ukey, auth_tag: second.ukey.auth_tag } });
  await one.deliver({ ...second, vkey: (await one.delivery(files)).vkey });
  await one.deliver(await one.delivery(files, { agentId: `${AGENT_ID}0` }));
  assert.equal((await one.get(CHALLENGE)).status, 'Bootstrap key not yet available.');
  await one.deliver(await one.delivery({ note: 'mine' }));
  await one.said(/A payload is in place/);
  assert.equal(runs(one.home), 0);
});

test('[MUST] old messages that are sent again neither run again, nor bring back what was replaced', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const old = await one.delivery({ 'autorun.sh': script(one.home), version: 'old' });
  await one.deliver(old);
  await one.said(/Payload script autorun\.sh succeeded/);
  await one.deliver(old);
  await one.said(/The same payload arrived once more/);
  const current = await one.delivery({ version: 'current' });
  await one.deliver(current);
  await one.said(/A payload is in place/, 2);
  await one.deliver(old);
  await one.said(/ERROR - A payload key that another has replaced arrived again: it is refused/);
  assert.equal(readFileSync(path.join(one.unzipped, 'version'), 'utf8'), 'current');
  assert.equal(runs(one.home), 1);
  assert.deepEqual((await one.get(CHALLENGE)).results, { hmac: keyVerifyHmac(current.k, 'AbC') });
});

test('[MUST] a payload that does not decrypt under K is not written, not even in part', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const delivery = await one.delivery({ 'autorun.sh': script(one.home) }, { encryptUnder: randomBytes(32) });
  await one.deliver(delivery);
  await one.said(/ERROR - The payload does not decrypt/);
  // The tenant that waits for a proof of K gets none.
  assert.equal((await one.get(CHALLENGE)).status, 'Bootstrap key not yet available.');
  await one.deliver(delivery);
  await one.said(/ERROR - The payload does not decrypt/, 2);
  await one.stop();
  assert.deepEqual(readdirSync(path.join(one.home, 'secure')), []);
});

test('[MUST] archives that leave their folder, link, or expand without end are refused whole', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const zips = archives(one.home);
  for (const [kind, file] of [
    ['name_leaves_folder', 'slip.zip'],
    ['name_absolute', 'absolute.zip'],
    ['not_a_file', 'link.zip'],
    ['name_duplicate', 'duplicate.zip'],
    ['bomb', 'bomb.zip'],
  ] as const) {
    await one.deliver(await one.delivery(zips[file] ?? Buffer.alloc(0)));
    await one.said(new RegExp(`archive of the payload is refused.*kind=${kind}`));
  }
  await one.stop();
  assert.deepEqual(readdirSync(path.join(one.home, 'secure')), []);
  assert.equal(existsSync(path.join(one.home, 'escaped')), false);
  assert.equal(runs(one.home), 0);
});

test('[MUST] a script that hangs or floods its output holds up neither attestation nor the next payload', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start({ payload_script_timeout: 1 });
  await one.deliver(await one.delivery({ 'autorun.sh': 'yes flood | head -c 20000000; sleep 1000' }));
  await one.said(/Executing payload script/);
  assert.equal((await one.get('/v2.6/quotes/identity?nonce=a')).code, 200);
  await one.deliver(await one.delivery({ 'autorun.sh': script(one.home) }));
  await one.said(/Payload script autorun\.sh failed: stopped after 1 s/);
  await one.said(/Payload script autorun\.sh succeeded/);
  assert.equal(runs(one.home), 1);
  assert.ok(one.log().length < 400_000, String(one.log().length));
});

test('[MUST] a flood of halves is bounded, and does not keep the right ones out', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const junk = await one.delivery(randomBytes(100_000));
  for (let n = 0; n < 40; n++) {
    await one.post('/v2.6/keys/ukey', junk.ukey);
    await one.post('/v2.6/keys/vkey', (await one.delivery({})).vkey);
  }
  assert.equal((await one.post('/v2.6/keys/ukey', { ...junk.ukey, payload: 'A'.repeat(3_000_000) })).code, 413);
  await one.deliver(await one.delivery({ 'autorun.sh': script(one.home) }));
  await one.said(/Payload script autorun\.sh succeeded/);
  assert.equal(runs(one.home), 1);
});

test('[MUST] the script has the rights of run_as, and the files belong to that user', {
  skip: !isRoot && 'needs root',
}, async (t) => {
  const one = await openAttackedAgent(t);
  const nobody = 65_534;
  const rootOnly = mkdtempSync(path.join(tmpdir(), 'keylime-root-'));
  t.after(() => rmSync(rootOnly, { recursive: true }));
  for (const name of ['.', 'cv_ca']) chownSync(path.join(one.home, name), nobody, nobody);
  chmodSync(one.home, 0o700);
  await one.start({ run_as: 'nobody:nogroup' });
  await one.deliver(await one.delivery({ 'autorun.sh': `${script(one.home)}; id -G; touch ${rootOnly}/escaped` }));
  await one.said(/Payload script autorun\.sh failed: exit status 1/);
  assert.match(one.log(), /autorun\.sh: 65534\n[\s\S]*autorun\.sh: 65534\n/);
  for (const name of ['derived_tci_key', 'decrypted_payload']) {
    const { uid, mode } = statSync(path.join(one.unzipped, name));
    assert.deepEqual([uid, mode & 0o777], [nobody, 0o600]);
  }
  assert.equal(existsSync(path.join(rootOnly, 'escaped')), false);
});

test('[MUST] a script that the end of the agent cuts off is run again by the next one, until it has ended', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  const begun = `echo run >> ${one.home}/runs; echo begun; [ -e ${one.home}/go ] || exec sleep 30`;
  await one.deliver(await one.delivery({ 'autorun.sh': begun }));
  for (const end of [one.stop, one.kill]) {
    await one.said(/autorun\.sh: begun/);
    await end();
    if (end === one.kill) writeFileSync(path.join(one.home, 'go'), '');
    await one.start();
    await one.said(/Payload script autorun\.sh was cut off when the agent ended: it is run again/);
  }
  await one.said(/Payload script autorun\.sh succeeded/);
  await one.stop();
  await one.start();
  await one.deliver(await one.delivery({ note: 'mine' }));
  await one.said(/A payload is in place/);
  assert.equal(runs(one.home), 3);
});

test('a payload that waits when the agent ends is not in place, and the next agent says so', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await one.deliver(await one.delivery({ 'autorun.sh': `echo begun; [ -e ${one.home}/go ] || exec sleep 30` }));
  await one.said(/autorun\.sh: begun/);
  const waiting = await one.delivery({ 'autorun.sh': script(one.home) });
  await one.deliver(waiting);
  await one.stop();
  writeFileSync(path.join(one.home, 'go'), '');
  await one.start();
  await one.said(/ERROR - A payload arrived and the agent ended before it was in place: send it again/);
  await one.said(/Payload script autorun\.sh succeeded/);
  await one.deliver(waiting);
  await one.said(/Payload script autorun\.sh succeeded/, 2);
  assert.equal(runs(one.home), 1);
});

test('[MUST] secrets are in memory only, and a payload that has no room leaves the one before', {
  skip: !isRoot && 'needs root',
}, async (t) => {
  const one = await openAttackedAgent(t, tmpdir());
  await one.start({ secure_size: '64k' });
  const secure = path.join(one.home, 'secure');
  assert.match(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(` ${secure} .* - tmpfs `));
  const old = await one.delivery({ version: 'old' });
  await one.deliver(old);
  await one.said(/A payload is in place/);
  const big = await one.delivery({ version: 'new', big: 'x'.repeat(200_000) });
  await one.deliver(big);
  await one.said(/ERROR - The payload does not fit beside the one before/);
  assert.equal(readFileSync(path.join(one.unzipped, 'version'), 'utf8'), 'old');
  assert.equal(readdirSync(secure).filter((name) => name.startsWith('payload-')).length, 1);
  assert.deepEqual((await one.get(CHALLENGE)).results, { hmac: keyVerifyHmac(old.k, 'AbC') });
  // With more room the very same messages bring it.
  execFileSync('mount', ['-o', 'remount,size=1m', secure]);
  await one.deliver(big);
  await one.said(/A payload is in place/, 2);
  assert.equal(readFileSync(path.join(one.unzipped, 'version'), 'utf8'), 'new');
  assert.deepEqual((await one.get(CHALLENGE)).results, { hmac: keyVerifyHmac(big.k, 'AbC') });
  // A process that is killed, and started again, finds mount and payload.
  await one.kill();
  await one.start({ secure_size: '64k' });
  assert.equal(readFileSync(path.join(one.unzipped, 'version'), 'utf8'), 'new');
  assert.equal((await one.get(CHALLENGE)).status, 'Bootstrap key not yet available.');
  await one.deliver(await one.delivery({ version: 'newer' }));
  await one.said(/A payload is in place/);
  assert.equal(readFileSync(path.join(one.unzipped, 'version'), 'utf8'), 'newer');
});

/** Archives that Python's own library writes when told to. */
function archives(home: string): Readonly<Record<string, Buffer>> {
  const folder = mkdtempSync(path.join(tmpdir(), 'keylime-zips-'));
  try {
    const program = `
import stat, sys, warnings, zipfile
warnings.simplefilter("ignore")
home, out = sys.argv[1:]
def write(name, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(f"{out}/{name}", "w", compression) as archive:
        archive.writestr("autorun.sh", f"echo run >> {home}/runs")
        for info, content in entries:
            archive.writestr(info, content)
link = zipfile.ZipInfo("link")
link.create_system = 3
link.external_attr = (stat.S_IFLNK | 0o777) << 16
write("slip.zip", [("../../escaped", "x")])
write("absolute.zip", [(f"{home}/escaped", "x")])
write("link.zip", [(link, home), ("link/escaped", "x")])
write("duplicate.zip", [("autorun.sh", f"touch {home}/escaped")])
write("bomb.zip", [("zeros", bytes(20 << 20))], zipfile.ZIP_DEFLATED)
`;
    execFileSync('python3', ['-c', program, home, folder]);
    return Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(path.join(folder, name))]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
