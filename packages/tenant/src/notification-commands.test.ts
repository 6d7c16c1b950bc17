import assert from 'node:assert/strict';
import test from 'node:test';
import { envelope, openLab, type Respond, versions } from './testing/lab.ts';

const letter = (id: number) => ({
  ...{ id, notification_id: `n-${id}`, agent_id: 'm7', channel: 'agent', target: 'peer' },
  ...{ created: '2026-01-01T00:00:00.000Z', attempts: 1, error: 'it answered 404' },
});

const channel = { waiting: 0, delivered: 40, failed: 3, dead: 2 };
const summary = {
  since: '2026-01-01T00:00:00.000Z',
  channels: [
    { channel: 'agent', enabled: true, ...channel },
    { channel: 'webhook', enabled: false, ...channel, waiting: 5, dead: 0 },
  ],
  waiting: [],
  dead: 2,
};

/** A verifier that gave up two notifications and shows one at a time. */
const verifier: Respond = ({ method, path, body }) => {
  if (path === '/version') return versions;
  if (path === '/v2.6/notifications') return envelope(200, 'Success', summary);
  if (path === '/v2.6/notifications/certificates') return envelope(200, 'Success', { certificates: 'PEM\n' });
  if (method === 'POST' && path === '/v2.6/notifications/dead/replay') {
    return envelope(200, 'Success', { replayed: body === '{"ids":[9]}' ? 0 : 2 });
  }
  const after = /^\/v2\.6\/notifications\/dead\?after=(\d)$/.exec(path)?.[1];
  const next = { 0: 1, 1: 3 }[Number(after)];
  return envelope(200, 'Success', { dead: next === undefined ? [] : [letter(next)] });
};

test('deadletters shows how many wait and every notification that was given up, also to scripts', async (t) => {
  const lab = openLab(t);
  const outcome = await lab.run(['-c', 'deadletters'], { verifier: await lab.serve(verifier) });
  assert.equal(outcome.code, 0, outcome.stderr);
  assert.deepEqual(
    outcome.data.map((line) => JSON.parse(line)),
    [summary, letter(1), letter(3)],
  );
  assert.ok(outcome.messages.includes('INFO - Channel agent: 0 wait, 40 delivered, 3 attempts failed, 2 given up'));
  assert.ok(outcome.messages.some((line) => line.startsWith('INFO - Channel webhook (switched off): 5 wait')));
  assert.ok(
    outcome.messages.some((line) => line === 'INFO - Given up: 3, about m7, on channel agent to peer: it answered 404'),
  );
});

test('replay asks for the numbers that were given, or for all, and for none by itself', async (t) => {
  const lab = openLab(t);
  const server = await lab.serve(verifier);
  const replay = (...argv: readonly string[]) => lab.run(['-c', 'replay', ...argv], { verifier: server });
  const asked = () => server.seen.filter(({ method }) => method === 'POST').map(({ body }) => body);
  const one = await replay('--notification', '1', '--notification', '3');
  assert.equal(one.code, 0, one.stderr);
  assert.ok(one.messages.includes('INFO - 2 notifications are sent again'));
  assert.equal((await replay('--notification', 'all')).code, 0);
  assert.deepEqual(asked(), ['{"ids":[1,3]}', '{"ids":"all"}']);
  for (const wrong of [
    [],
    ['--notification', 'x'],
    ['--notification', '-1'],
    ['--notification', '1', '--notification', '2x'],
  ]) {
    assert.equal((await replay(...wrong)).code, 1, wrong.join(' '));
  }
  assert.equal(asked().length, 2);
  assert.equal((await replay('--notification', '9')).code, 1);
});

test('revocationcerts prints nothing but the certificates', async (t) => {
  const lab = openLab(t);
  const outcome = await lab.run(['-c', 'revocationcerts'], { verifier: await lab.serve(verifier) });
  assert.deepEqual([outcome.code, outcome.data], [0, ['PEM']]);
});

test('a verifier that has no such routes is named as the reason', async (t) => {
  const lab = openLab(t);
  const existing: Respond = ({ path }) => (path === '/version' ? versions : envelope(404, 'Not Found', {}));
  for (const command of [['deadletters'], ['revocationcerts'], ['replay', '--notification', 'all']]) {
    const outcome = await lab.run(['-c', ...command], { verifier: await lab.serve(existing) });
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /ERROR - .* keeps no account of notifications: it is of another make$/);
  }
});
