import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { type AttackedAgent, openAttackedAgent } from './agent-harness.ts';
import { calls, openNatsRevocations, record } from './revocation-record.ts';

/*
 * An alarm must come through, once, and nobody but the owner of the revocation key may raise one: what it runs has the
 * rights of the agent.
 */
const CERTIFICATE = 'RevocationNotifier-cert.crt';

async function withPayload(one: AttackedAgent, files: Readonly<Record<string, string>> = {}): Promise<void> {
  const own = { [CERTIFICATE]: one.notifierCertificate, action_list: 'record\n', record: record(one) };
  await one.deliver(await one.delivery({ ...own, ...files }));
  await one.said(/The certificate for revocations is loaded/);
}

function install(one: AttackedAgent, name: string, script: string): void {
  const file = path.join(one.home, 'installed', name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

test('a signed revocation runs the action of the payload within a second', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  const startedAt = performance.now();
  assert.equal((await one.revoke(one.revocation({ agent_id: 'm7' }))).code, 200);
  await one.said(/Revocation action record succeeded/);
  const tookMs = performance.now() - startedAt;
  assert.ok(tookMs < 1000, `${tookMs} ms`);
  assert.match(one.log(), /Executing revocation action record/);
  assert.deepEqual(calls(one), ['m7']);
});

test('[MUST] forged revocations run nothing', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const { msg, signature } = one.revocation();
  // What an intruder finds on a machine of the fleet: the RSA key of its agent.
  const payloadKey = createPrivateKey(readFileSync(path.join(one.home, 'payload-private.pem')));
  const forged = [
    one.revocation({}, stranger),
    one.revocation({}, payloadKey),
    { msg, signature: '' },
    { msg: msg.replace('"peer"', '"else"'), signature },
    { msg: `${msg} `, signature },
  ];
  for (const message of forged) assert.equal((await one.revoke(message)).code, 200);
  await one.said(/ERROR - A revocation is refused: its signature/, forged.length);
  assert.deepEqual(calls(one), []);
});

test('[MUST] a revocation is acted upon once: not again when it is replayed, not after a restart or a new payload', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  const message = one.revocation({ agent_id: 'm7' });
  await one.revoke(message);
  await one.revoke(message);
  await one.said(/acted upon before is not repeated/);
  await one.kill();
  await one.start();
  await one.revoke(message);
  await one.said(/acted upon before is not repeated/);
  await withPayload(one, { more: '1' });
  await one.revoke(message);
  await one.said(/acted upon before is not repeated/, 2);
  assert.deepEqual(calls(one), ['m7']);
});

test('an agent that was restarted acts upon revocations without a new payload', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  await one.stop();
  await one.start();
  await one.revoke(one.revocation({ agent_id: 'm7' }));
  await one.said(/Revocation action record succeeded/);
  assert.deepEqual(calls(one), ['m7']);
});

test('[MUST] after a reboot, with the payload gone, revocations are still acted upon', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  await one.stop();
  const secure = path.join(one.home, 'secure');
  const isMounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${secure} `);
  if (isMounted) execFileSync('umount', [secure]);
  else rmSync(secure, { recursive: true });
  install(one, 'note', record(one).split('\n').slice(1).join('\n'));
  await one.start({ revocation_actions: 'note' });
  assert.equal(existsSync(path.join(one.unzipped, CERTIFICATE)), false);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  await one.revoke(one.revocation({ agent_id: 'forged' }, stranger));
  await one.revoke(one.revocation({ agent_id: 'm7' }));
  await one.said(/Revocation action note succeeded/);
  assert.deepEqual(calls(one), ['m7']);
});

test('a revocation that was taken is not lost: not without a certificate yet, not when the agent is killed', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  assert.equal((await one.revoke(one.revocation({ agent_id: 'early' }))).code, 200);
  await one.kill();
  await one.start();
  await withPayload(one);
  await one.said(/Revocation action record succeeded/);
  assert.deepEqual(calls(one), ['early']);
  install(one, 'slow', `[ -e ${one.home}/killed ] || { touch ${one.home}/killed; sleep 1000; }`);
  await one.stop();
  await one.start({ revocation_actions: 'slow' });
  await one.revoke(one.revocation({ agent_id: 'late' }));
  while (!existsSync(path.join(one.home, 'killed'))) await new Promise((resolve) => setTimeout(resolve, 10));
  await one.kill();
  await one.start({ revocation_actions: 'slow' });
  await one.said(/Revocation action record succeeded/);
  assert.deepEqual(calls(one), ['early', 'late']);
});

test('[MUST] action names with parts of a path lead nowhere', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  writeFileSync(path.join(one.home, 'escape'), `#!/bin/sh\ntouch ${one.home}/escaped\n`, { mode: 0o755 });
  await withPayload(one, { action_list: `../../escape, ${one.home}/escape, ../installed/../escape, record` });
  await one.revoke(one.revocation({ agent_id: 'm7' }));
  await one.said(/Revocation action record succeeded/);
  assert.equal(existsSync(path.join(one.home, 'escaped')), false);
  assert.deepEqual(calls(one), ['m7']);
  await one.stop();
  await assert.rejects(
    one.start({ revocation_actions: '../escape' }),
    /revocation_actions: "\.\.\/escape" is not the name/,
  );
});

test('[MUST] an action that hangs, or floods its output, holds up neither the next one nor attestation', async (t) => {
  const one = await openAttackedAgent(t);
  install(one, 'hang', 'grep -q bad "$1" || exit 0; yes flood | head -c 20000000; sleep 1000');
  await one.start({ revocation_actions: 'hang', revocation_action_timeout: 1 });
  await withPayload(one);
  await one.revoke(one.revocation({ agent_id: 'bad' }));
  await one.said(/Executing revocation action hang/);
  assert.equal((await one.get('/v2.6/quotes/identity?nonce=a')).code, 200);
  await one.revoke(one.revocation({ agent_id: 'good' }));
  await one.said(/Revocation action record succeeded/);
  assert.match(one.log(), /Revocation action hang failed: stopped after 1 s/);
  assert.deepEqual(calls(one), ['good']);
  assert.ok(one.log().length < 400_000, String(one.log().length));
});

test('[MUST] revocations of a client that is not of the trusted CA, or that are too long, are not even kept', async (t) => {
  const one = await openAttackedAgent(t);
  await one.start();
  await withPayload(one);
  for (const as of ['nobody', one.stranger] as const) {
    await assert.rejects(one.post('/v2.6/notifications/revocation', one.revocation(), as));
  }
  assert.equal((await one.revoke(one.revocation({ context: 'x'.repeat(300_000) }))).code, 400);
  await one.revoke(one.revocation({ agent_id: 'm7' }));
  await one.said(/Revocation action record succeeded/);
  assert.deepEqual(calls(one), ['m7']);
});

test('[MUST] more revocations than the queue holds are answered with 503, and none that was taken is lost', async (t) => {
  const one = await openAttackedAgent(t);
  install(one, 'wait', `while [ ! -e ${one.home}/go ]; do sleep 0.05; done`);
  await one.start({ revocation_actions: 'wait' });
  await withPayload(one);
  const answers: number[] = [];
  for (let n = 0; n < 40; n++) answers.push((await one.revoke(one.revocation({ agent_id: `m${n}` }))).code);
  const taken = answers.flatMap((code, n) => (code === 200 ? [`m${n}`] : []));
  assert.equal(taken.length, 32);
  assert.deepEqual(new Set(answers), new Set([200, 503]));
  writeFileSync(path.join(one.home, 'go'), '');
  await one.said(/Revocation action record succeeded/, taken.length);
  assert.deepEqual(calls(one), taken);
});

test('[MUST] revocations over NATS come once, also those of the time when the agent was killed; forged ones run nothing', async (t) => {
  const { settings, publish } = await openNatsRevocations(t);
  const one = await openAttackedAgent(t);
  await one.start(settings);
  await withPayload(one);
  await one.said(/Taking revocations from NATS/);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  await publish(one.revocation({ agent_id: 'forged' }, stranger));
  const first = one.revocation({ agent_id: 'first' });
  await publish(first);
  await publish(first);
  await one.said(/acted upon before is not repeated/);
  await one.kill();
  await publish(one.revocation({ agent_id: 'away' }));
  await publish(first);
  await one.start(settings);
  await one.said(/Revocation action record succeeded/);
  await one.said(/acted upon before is not repeated/);
  assert.deepEqual(calls(one), ['first', 'away']);
});
