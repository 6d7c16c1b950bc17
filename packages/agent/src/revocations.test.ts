import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pythonJson } from '@keylime/api/python-json';
import { signRevocation } from '@keylime/payload/revocation-signature';
import { DEFAULT_CA_OPTIONS } from '@keylime/pki/ca-options';
import { issueCaCertificate } from '@keylime/pki/issue';
import { openLog } from '@keylime/service/log';
import type { BuiltInAction } from './built-in-actions.ts';
import type { ActionSettings } from './revocation-actions.ts';
import type { ReceivedMessage } from './revocation-notice.ts';
import { MAX_QUEUED, type Way } from './revocation-queue.ts';
import { openRevocations, type Revocations, WAIT_FOR_PAYLOAD_MS } from './revocations.ts';

const base = mkdtempSync(join(tmpdir(), 'keylime-revocations-'));
after(() => rmSync(base, { recursive: true }));

let key: KeyObject;
let certificate: string;
before(async () => {
  key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  certificate = (await issueCaCertificate(key, DEFAULT_CA_OPTIONS, new Date())).toString('pem');
});

let events = 0;
/** A message as verifiers sign it. Without `id` it is one of the existing verifier. */
function message(changes: Readonly<Record<string, string | number>> = {}, id = `id-${events++}`) {
  const ours = id === '' ? {} : { event_time_utc: new Date(Date.now() + events).toISOString(), notification_id: id };
  const msg = pythonJson({
    ...{ type: 'revocation', ip: '10.1.2.3', agent_id: 'a1', port: 9002, tpm_policy: '{}' },
    ...{
      meta_data: '{"cert_serial": 3, "subject": "CN=a1"}',
      event_time: 'Tue Aug  4 10:15:03 2026',
      ...ours,
      ...changes,
    },
  });
  return { msg, signature: signRevocation(key, msg) };
}

/** A machine with actions `record` (appends what it is given to `calls`) and others. */
async function machine(
  options: {
    readonly hasCertificate?: boolean;
    readonly folder?: string;
    readonly now?: () => number;
    readonly builtIn?: readonly BuiltInAction[];
    readonly takesPayloads?: boolean;
  } & Partial<ActionSettings> = {},
) {
  const folder = options.folder ?? mkdtempSync(join(base, 'machine-'));
  const installedFolder = join(folder, 'installed');
  const payloadFolder = join(folder, 'unzipped');
  for (const one of [installedFolder, payloadFolder]) mkdirSync(one, { recursive: true });
  const certificatePath = join(payloadFolder, 'RevocationNotifier-cert.crt');
  if (options.hasCertificate ?? true) writeFileSync(certificatePath, certificate);
  const action = (name: string, script: string, where = installedFolder) => {
    writeFileSync(join(where, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(where, name), 0o700);
  };
  action('record', `cat "$1" >> ${folder}/calls; echo >> ${folder}/calls; echo recorded`);
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const log = openLog({
    name: 'agent',
    level: 'debug',
    destination: {
      write: (line) => {
        lines.push(line);
        for (const look of waiting) look();
      },
    },
  });
  /** Resolves when the log has `pattern` this many times. */
  const said = (pattern: RegExp, times = 1) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (lines.filter((line) => pattern.test(line)).length < times) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  const revocations: Revocations = await openRevocations({
    certificatePaths: [certificatePath, join(folder, 'verifier-certs.pem')],
    actions: {
      ...{
        names: ['record'],
        installedFolder,
        payloadFolder,
        allowPayloadActions: true,
        workFolder: folder,
        timeoutSeconds: 5,
      },
      ...options,
    },
    builtIn: options.builtIn ?? [],
    takesPayloads: options.takesPayloads ?? true,
    log,
    ...(options.now && { now: options.now }),
  });
  const offer = (sent: ReceivedMessage, way: Way = 'https') => revocations.offer(sent, way);
  const calls = () => {
    const path = join(folder, 'calls');
    return existsSync(path)
      ? readFileSync(path, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : [];
  };
  return { folder, installedFolder, payloadFolder, certificatePath, action, lines, said, calls, ...revocations, offer };
}

test('a signed revocation runs the action with the message in a file, in the work folder, and its output is in the log', async () => {
  const one = await machine();
  one.action('where', 'pwd; echo trouble >&2');
  writeFileSync(join(one.payloadFolder, 'action_list'), 'where');
  const sent = message();
  assert.equal(await one.offer(sent), true);
  await one.said(/Revocation action where succeeded/);
  assert.deepEqual(one.calls(), [JSON.parse(sent.msg)]);
  const said = one.lines.join('');
  assert.match(said, /INFO - Executing revocation action record/);
  assert.match(said, /INFO - record: recorded/);
  assert.match(said, new RegExp(`INFO - where: ${one.folder}`));
  assert.match(said, /WARNING - where: trouble/);
  await one.close();
  assert.deepEqual(readdirSync(join(one.folder, 'revocations')), []);
});

test('[MUST] a forged revocation does nothing: other key, changed text, no signature', async () => {
  const one = await machine();
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const { msg, signature } = message();
  const forged = [
    { msg, signature: signRevocation(other, msg) },
    { msg: msg.replace('10.1.2.3', '10.1.2.4'), signature },
    { msg, signature: '' },
    { msg, signature: 'no base64' },
  ];
  for (const sent of forged) assert.equal(await one.offer(sent), true);
  await one.said(/ERROR - A revocation is refused: its signature/, forged.length);
  assert.deepEqual(one.calls(), []);
  await one.close();
});

test('signed text that is no revocation does nothing', async () => {
  const one = await machine();
  for (const msg of ['', '[]', '{}', '{"type": 1}', 'text'])
    await one.offer({ msg, signature: signRevocation(key, msg) });
  await one.said(/yet not the JSON of a revocation/, 5);
  assert.deepEqual(one.calls(), []);
  await one.close();
});

test('[MUST] a revocation that is sent again runs nothing, also after a restart, also one of the existing verifier', async () => {
  const one = await machine();
  const ours = message();
  const theirs = message({}, '');
  for (const sent of [ours, ours, theirs, theirs]) await one.offer(sent);
  await one.said(/acted upon before is not repeated/, 2);
  await one.close();
  const again = await machine({ folder: one.folder });
  for (const sent of [ours, theirs]) await again.offer(sent);
  await again.said(/acted upon before is not repeated/, 2);
  assert.equal(again.calls().length, 2);
  // The same text, signed anew by the owner of the key.
  await again.offer({ msg: ours.msg, signature: signRevocation(key, ours.msg) });
  await again.said(/acted upon before is not repeated/, 3);
  await again.close();
});

test('revocations run one after the other, in the order in which they came', async () => {
  const one = await machine();
  one.action('slow', 'sleep 0.05');
  writeFileSync(join(one.payloadFolder, 'action_list'), 'slow');
  const sent = Array.from({ length: 8 }, (_, n) => message({ agent_id: `a${n}` }));
  assert.deepEqual(
    await Promise.all(sent.map((each) => one.offer(each))),
    sent.map(() => true),
  );
  await one.said(/Revocation action slow succeeded/, 8);
  assert.deepEqual(
    one.calls().map(({ agent_id: id }) => id),
    sent.map((_, n) => `a${n}`),
  );
  await one.close();
});

test('[MUST] an action that hangs is stopped, ends the actions of this message, and does not hold up the next', async () => {
  const one = await machine({ names: ['hang', 'record'], timeoutSeconds: 0.2 });
  one.action('hang', 'grep -q "\\"agent_id\\":\\"bad\\"" "$1" && sleep 100; exit 0');
  await one.offer(message({ agent_id: 'bad' }));
  await one.offer(message({ agent_id: 'good' }));
  await one.said(/Revocation action record succeeded/);
  assert.match(one.lines.join(''), /ERROR - Revocation action hang failed: stopped after 0\.2 s/);
  assert.deepEqual(
    one.calls().map(({ agent_id: id }) => id),
    ['good'],
  );
  await one.close();
});

test('[MUST] more revocations than the queue holds are turned away until there is room', async () => {
  const one = await machine({ names: ['block'], timeoutSeconds: 5 });
  one.action('block', `while [ ! -e ${one.folder}/go ]; do sleep 0.02; done`);
  const answers: boolean[] = [];
  for (let n = 0; n < MAX_QUEUED + 3; n++) answers.push(await one.offer(message()));
  assert.equal(answers.filter((taken) => taken).length, MAX_QUEUED);
  writeFileSync(join(one.folder, 'go'), '');
  await one.said(/Revocation action block succeeded/, MAX_QUEUED);
  assert.equal(await one.offer(message()), true);
  await one.close();
});

test('the first action that fails or is missing ends the actions', async () => {
  const one = await machine({ names: ['fail', 'record'] });
  one.action('fail', 'exit 9');
  await one.offer(message());
  await one.said(/ERROR - Revocation action fail failed: exit status 9/);
  await one.close();
  const other = await machine({ names: ['missing', 'record'] });
  await other.offer(message());
  await other.said(/ERROR - Revocation action missing cannot be run: not_found/);
  await other.close();
  assert.deepEqual([...one.calls(), ...other.calls()], []);
});

test('[MUST] names with parts of a path run nothing, from the settings or from a payload', async () => {
  const one = await machine({ names: [] });
  one.action('outside', `touch ${one.folder}/escaped`, one.folder);
  writeFileSync(join(one.payloadFolder, 'action_list'), '../outside, /bin/true, sub/x, ..');
  await one.offer(message());
  await one.said(/ERROR - action_list has names that are never run/);
  await one.close();
  const other = await machine({ names: ['../outside'], folder: one.folder });
  await other.offer(message());
  await other.said(/Revocation action \.\.\/outside cannot be run: name_refused/);
  await other.close();
  assert.equal(existsSync(join(one.folder, 'escaped')), false);
});

test('[MUST] a link in the payload that leads elsewhere is no action', async () => {
  const one = await machine({ names: ['linked'] });
  one.action('outside', `touch ${one.folder}/escaped`, one.folder);
  symlinkSync(join(one.folder, 'outside'), join(one.payloadFolder, 'linked'));
  await one.offer(message());
  await one.said(/Revocation action linked cannot be run: not_found/);
  assert.equal(existsSync(join(one.folder, 'escaped')), false);
  await one.close();
});

test('[MUST] actions of the payload run only if that is allowed, and an installed one of the same name comes first', async () => {
  const one = await machine({ names: ['mine'], allowPayloadActions: false });
  one.action('mine', 'echo from-payload', one.payloadFolder);
  await one.offer(message());
  await one.said(/Revocation action mine cannot be run: not_found/);
  one.action('mine', 'echo installed');
  await one.offer(message());
  await one.said(/mine: installed/);
  await one.close();
  const other = await machine({ names: ['mine'], folder: one.folder });
  await other.offer(message());
  await other.said(/mine: installed/);
  await other.close();
});

test('Python modules run as with the existing agents, coroutines or not, and find their neighbours', async () => {
  const one = await machine({ names: ['local_action_a', 'local_action_b'] });
  writeFileSync(join(one.payloadFolder, 'neighbour.py'), 'PREFIX = "revoked "\n');
  const module = (kind: string) =>
    `import neighbour\n${kind} execute(event):\n    print(neighbour.PREFIX + event["agent_id"])\n`;
  writeFileSync(join(one.payloadFolder, 'local_action_a.py'), module('async def'));
  writeFileSync(join(one.payloadFolder, 'local_action_b.py'), module('def'));
  await one.offer(message());
  await one.said(/local_action_a: revoked a1/);
  await one.said(/Revocation action local_action_b succeeded/);
  writeFileSync(
    join(one.payloadFolder, 'local_action_a.py'),
    'async def execute(event):\n    raise ValueError("no")\n',
  );
  await one.offer(message());
  await one.said(/Revocation action local_action_a failed: exit status 1/);
  assert.match(one.lines.join(''), /WARNING - local_action_a: ValueError: no/);
  await one.close();
});

test('a revocation waits for the payload that brings the certificate, also through a restart', async () => {
  const one = await machine({ hasCertificate: false });
  assert.equal(await one.offer(message()), true);
  await one.close();
  const again = await machine({ folder: one.folder, hasCertificate: false });
  assert.deepEqual(again.calls(), []);
  writeFileSync(again.certificatePath, certificate);
  await again.payloadChanged();
  await again.said(/Revocation action record succeeded/);
  assert.equal(again.calls().length, 1);
  await again.close();
});

test('it does not wait for ever', async () => {
  let now = performance.now();
  const one = await machine({ hasCertificate: false, now: () => now });
  await one.offer(message());
  now += WAIT_FOR_PAYLOAD_MS;
  await one.payloadChanged();
  await one.said(/WARNING - A revocation is dropped/);
  writeFileSync(one.certificatePath, certificate);
  await one.payloadChanged();
  await one.offer(message());
  await one.said(/Revocation action record succeeded/);
  assert.equal(one.calls().length, 1);
  await one.close();
});

test('[MUST] the certificate of the newest payload is the one that counts', async () => {
  const one = await machine();
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  writeFileSync(one.certificatePath, (await issueCaCertificate(other, DEFAULT_CA_OPTIONS, new Date())).toString('pem'));
  await one.payloadChanged();
  await one.offer(message());
  await one.said(/its signature is not that of a certificate/);
  for (const damaged of ['', 'x']) {
    writeFileSync(one.certificatePath, damaged);
    await one.payloadChanged();
  }
  await one.said(/ERROR - The certificate for revocations cannot be read/, 2);
  assert.deepEqual(one.calls(), []);
  await one.close();
});

test('[MUST] after a reboot the certificate of the payload is still known, until a payload brings another', async () => {
  const folder = mkdtempSync(join(base, 'machine-'));
  const kept = join(folder, 'revocation_certs.pem');
  /** The next process, with what is in memory gone. */
  const boot = async () => {
    rmSync(join(folder, 'unzipped'), { recursive: true, force: true });
    return machine({ folder, hasCertificate: false });
  };
  const first = await machine({ folder });
  assert.equal(existsSync(kept), false);
  await first.payloadChanged();
  await first.close();
  assert.equal(readFileSync(kept, 'utf8').trim(), certificate.trim());
  assert.equal(statSync(kept).mode & 0o777, 0o644);

  const second = await boot();
  await second.offer(message({ agent_id: 'after-reboot' }));
  await second.said(/Revocation action record succeeded/);
  // Payloads without a certificate, and with one that is none.
  await second.payloadChanged();
  writeFileSync(second.certificatePath, 'x');
  await second.payloadChanged();
  await second.offer(message({ agent_id: 'after-others' }));
  await second.said(/Revocation action record succeeded/, 2);
  await second.close();

  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const third = await boot();
  writeFileSync(
    third.certificatePath,
    (await issueCaCertificate(other, DEFAULT_CA_OPTIONS, new Date())).toString('pem'),
  );
  await third.payloadChanged();
  await third.close();

  const fourth = await boot();
  const { msg } = message({ agent_id: 'under-another' });
  await fourth.offer(message({ agent_id: 'under-the-old' }));
  await fourth.offer({ msg, signature: signRevocation(other, msg) });
  await fourth.said(/its signature is not that of a certificate/);
  await fourth.said(/Revocation action record succeeded/);
  assert.deepEqual(
    fourth.calls().map(({ agent_id }) => agent_id),
    ['after-reboot', 'after-others', 'under-another'],
  );
  await fourth.close();
});

test('[MUST] after a reboot the actions of the payload are not taken for run before there is a payload', async () => {
  const first = await machine();
  await first.payloadChanged();
  await first.close();
  const { folder } = first;
  let now = performance.now();
  const boot = async () => {
    rmSync(first.payloadFolder, { recursive: true, force: true });
    const next = await machine({ folder, hasCertificate: false, now: () => now });
    rmSync(first.payloadFolder, { recursive: true });
    return next;
  };
  const again = await boot();
  await again.offer(message());
  await again.said(/Revocation action record succeeded/);
  mkdirSync(again.payloadFolder);
  again.action('delivered', `echo '"delivered"' >> ${folder}/calls`, again.payloadFolder);
  writeFileSync(join(again.payloadFolder, 'action_list'), 'delivered');
  await again.payloadChanged();
  await again.said(/Revocation action delivered succeeded/);
  assert.deepEqual([again.calls().length, again.calls()[1]], [2, 'delivered']);
  await again.close();
  // And if none comes that is all.
  const last = await boot();
  await last.offer(message());
  await last.said(/Revocation action record succeeded/);
  const waiting = () => readdirSync(join(folder, 'revocations')).filter((name) => /^\d/.test(name)).length;
  assert.equal(waiting(), 1);
  now += WAIT_FOR_PAYLOAD_MS;
  await last.payloadChanged();
  while (waiting() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(last.calls().length, 3);
  await last.close();
});

test('an agent that takes no payloads waits for none: what its operator installed is all that there is', async () => {
  const before = await machine();
  await before.payloadChanged();
  await before.close();
  rmSync(before.payloadFolder, { recursive: true });
  const { folder } = before;
  const again = await machine({ folder, hasCertificate: false, takesPayloads: false });
  rmSync(again.payloadFolder, { recursive: true });
  assert.equal(again.canVerify(), true);
  await again.offer(message());
  await again.said(/Revocation action record succeeded/);
  while (readdirSync(join(folder, 'revocations')).some((name) => /^\d/.test(name))) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(again.calls().length, 1);
  await again.close();
});

test("certificates of the operator's count as soon as their file is written, and no longer than they stand in it", async () => {
  const one = await machine({ hasCertificate: false, takesPayloads: false });
  assert.equal(one.canVerify(), false);
  const file = join(one.folder, 'verifier-certs.pem');
  const next = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const nextCertificate = (await issueCaCertificate(next, DEFAULT_CA_OPTIONS, new Date())).toString('pem');
  writeFileSync(file, certificate);
  await one.offer(message());
  await one.said(/Revocation action record succeeded/);

  writeFileSync(file, nextCertificate);
  const { msg } = message();
  await one.offer({ msg, signature: signRevocation(next, msg) });
  await one.said(/Revocation action record succeeded/, 2);
  await one.offer(message());
  await one.said(/A revocation is refused: its signature/);
  assert.equal(one.calls().length, 2);
  await one.close();
});

test('[MUST] a clock that is set does not end the time that a revocation waits', async () => {
  const folder = mkdtempSync(join(base, 'machine-'));
  mkdirSync(join(folder, 'revocations'));
  // Taken in 1970, before the time came from the network.
  const kept = JSON.stringify({ ...message(), receivedAtMs: 5000 });
  writeFileSync(join(folder, 'revocations', '000000000001.json'), kept);
  const one = await machine({ folder, hasCertificate: false });
  writeFileSync(one.certificatePath, certificate);
  await one.payloadChanged();
  await one.said(/Revocation action record succeeded/);
  await one.close();
});

test('[MUST] actions that cannot be run, as on a full disk, are tried until they are', async () => {
  let now = performance.now();
  const one = await machine({ now: () => now });
  const queue = join(one.folder, 'revocations');
  rmSync(queue, { recursive: true });
  const sent = message();
  await one.offer(sent);
  await one.said(/ERROR - Revocation actions cannot be run now, and are tried again/);
  now += 24 * 3_600_000;
  await one.payloadChanged();
  await one.said(/ERROR - Revocation actions cannot be run now, and are tried again/, 2);
  mkdirSync(queue);
  await one.payloadChanged();
  await one.said(/Revocation action record succeeded/);
  await one.offer(sent);
  await one.said(/acted upon before is not repeated/);
  assert.equal(one.calls().length, 1);
  await one.close();
});

test('[MUST] a built-in action that is not possible now is tried again, alone, and only its machine waits', async () => {
  const acted: string[] = [];
  let isPossible = false;
  const act =
    (name: string, canAct: () => boolean): BuiltInAction['act'] =>
    async ({ agentId, json }) => {
      const isDone = agentId !== 'bad' || canAct();
      acted.push(`${name} ${agentId} ${json.port} ${isDone}`);
      return isDone ? 'done' : 'retry';
    };
  const builtIn = [
    { name: 'block', act: act('block', () => isPossible) },
    { name: 'crl', act: act('crl', () => true) },
  ];
  const one = await machine({ builtIn });
  const first = message({ agent_id: 'bad', port: 1 });
  for (const sent of [first, message({ agent_id: 'bad', port: 2 }), message({ agent_id: 'good', port: 3 })])
    await one.offer(sent);
  await one.said(/Revocation action record succeeded/, 2);
  assert.deepEqual(acted, ['block bad 1 false', 'crl bad 1 true', 'block good 3 true', 'crl good 3 true']);
  // What is repeated meanwhile takes no place.
  await one.offer(first);
  await one.said(/is not repeated/);
  acted.length = 0;
  isPossible = true;
  await one.payloadChanged();
  await one.said(/Revocation action record succeeded/, 3);
  await one.offer(message({ agent_id: 'good', port: 4 }));
  await one.said(/Revocation action record succeeded/, 4);
  assert.deepEqual(acted, [
    ...['block bad 1 true', 'block bad 2 true', 'crl bad 2 true', 'block good 4 true', 'crl good 4 true'],
  ]);
  assert.deepEqual(
    one.calls().map(({ port }) => port),
    [1, 3, 2, 4],
  );
  await one.close();
  assert.deepEqual(readdirSync(join(one.folder, 'revocations')), []);
});

test('what is to be retried is kept for the next process', async () => {
  const retry = { name: 'block', act: async () => 'retry' as const };
  const one = await machine({ builtIn: [retry], names: [] });
  await one.offer(message());
  await one.said(/A machine is reported/);
  await one.close();
  const again = await machine({ folder: one.folder });
  await again.said(/Revocation action record succeeded/);
  await again.close();
});

test('[MUST] before there is a certificate, strangers take no places of those who are authenticated', async () => {
  const one = await machine({ hasCertificate: false });
  const forged = { msg: '{}', signature: 'none' };
  for (let n = 0; n < MAX_QUEUED; n++) assert.equal(await one.offer(forged, 'subscription'), true);
  assert.equal(await one.offer(forged, 'subscription'), false);
  assert.equal(await one.offer(message()), true);
  await one.close();
  const again = await machine({ folder: one.folder, hasCertificate: false });
  assert.equal(await again.offer(forged, 'subscription'), false);
  for (let n = 1; n < MAX_QUEUED; n++) assert.equal(await again.offer(message()), true);
  assert.equal(await again.offer(message()), false);
  writeFileSync(again.certificatePath, certificate);
  await again.payloadChanged();
  await again.said(/Revocation action record succeeded/, MAX_QUEUED);
  await again.close();
});

test('any certificate of any file counts: those of a verifier, of which there are several, beside that of the payload', async () => {
  const folder = mkdtempSync(join(base, 'machine-'));
  const own = [2048, 3072].map((modulusLength) => generateKeyPairSync('rsa', { modulusLength }).privateKey);
  const issued = await Promise.all(own.map((one) => issueCaCertificate(one, DEFAULT_CA_OPTIONS, new Date())));
  writeFileSync(join(folder, 'verifier-certs.pem'), issued.map((one) => one.toString('pem')).join('\n'));
  const one = await machine({ folder });
  await one.offer(message({ agent_id: 'payload' }));
  for (const [n, by] of own.entries()) {
    const { msg } = message({ agent_id: `verifier-${n}` });
    await one.offer({ msg, signature: signRevocation(by, msg) });
  }
  await one.said(/Revocation action record succeeded/, 3);
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const { msg } = message({ agent_id: 'stranger' });
  await one.offer({ msg, signature: signRevocation(stranger, msg) });
  await one.said(/its signature is not that of a certificate/);
  assert.deepEqual(
    one.calls().map(({ agent_id }) => agent_id),
    ['payload', 'verifier-0', 'verifier-1'],
  );
  await one.close();
});

test('an agent that is stopped in the middle of an action runs it again when it is back', async () => {
  const one = await machine({ names: ['long', 'record'] });
  one.action('long', `[ -e ${one.folder}/second ] || { touch ${one.folder}/second; sleep 100; }`);
  await one.offer(message());
  await one.said(/Executing revocation action long/);
  while (!existsSync(join(one.folder, 'second'))) await new Promise((resolve) => setTimeout(resolve, 5));
  await one.close();
  const again = await machine({ names: ['long', 'record'], folder: one.folder });
  // `machine` writes the folder anew; the action of this name is as it was.
  await again.said(/Revocation action record succeeded/);
  assert.equal(again.calls().length, 1);
  await again.close();
});

test('a damaged file of kept revocations or of seen ones is reported, and does not stop the agent', async () => {
  const one = await machine();
  await one.close();
  writeFileSync(join(one.folder, 'revocations', '000000000001.json'), '{');
  writeFileSync(join(one.folder, 'revocations_seen.json'), '{}');
  writeFileSync(join(one.folder, 'revocations', 'argument-0123.json'), '{}');
  const again = await machine({ folder: one.folder });
  assert.match(again.lines.join(''), /ERROR - A kept revocation is damaged/);
  assert.match(again.lines.join(''), /ERROR - The file that remembers revocations is damaged/);
  await again.offer(message());
  await again.said(/Revocation action record succeeded/);
  await again.close();
  assert.deepEqual(readdirSync(join(one.folder, 'revocations')), []);
});
