import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import test from 'node:test';
import fc from 'fast-check';
import { type LogOptions, openLog } from './log.ts';

const NOW = new Date(2026, 7, 4, 10, 15, 3, 123).getTime();

function capture(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const destination = { write: (line: string) => lines.push(line) };
  return { lines, log: openLog({ name: 'keylime.verifier', destination, now: () => NOW, ...options }) };
}

test('a text line looks as the tools of the field expect, with fields behind', () => {
  const { lines, log } = capture();
  log.info('Agent enrolled', {
    agent_id: 'a-1',
    reason: 'two words',
    count: 2,
    big: 3n,
    list: [1, 'x'],
    gone: undefined,
  });
  assert.deepEqual(lines, [
    '2026-08-04 10:15:03.123 - keylime.verifier - INFO - Agent enrolled agent_id=a-1 reason="two words" count=2 big=3 list=[1,"x"]\n',
  ]);
});

test('levels have the names of the existing services, and lower ones are left out', () => {
  const { lines, log } = capture({ level: 'warning' });
  for (const level of ['debug', 'info', 'warn', 'error', 'critical'] as const) log[level]('x');
  assert.deepEqual(
    lines.map((line) => line.split(' - ')[2]),
    ['WARNING', 'ERROR', 'CRITICAL'],
  );
  assert.deepEqual([log.enabled('info'), log.enabled('error')], [false, true]);
});

test('JSON lines keep fields apart from what every line has', () => {
  const { lines, log } = capture({ format: 'json' });
  log
    .child({ agent_id: 'a' })
    .error('100% %s wrong', { msg: 'x', level: 'y', error: new Error('boom', { cause: new Error('why') }) });
  assert.deepEqual(JSON.parse(lines[0] ?? ''), {
    level: 'ERROR',
    time: new Date(NOW).toISOString(),
    name: 'keylime.verifier',
    fields: { agent_id: 'a', msg: 'x', level: 'y', error: 'boom: why' },
    msg: '100% %s wrong',
  });
});

test('a child carries its fields; the request id stands where the existing services put it', () => {
  const { lines, log } = capture();
  log.child({ reqid: 'abc' }).child({ agent_id: 'a' }).warn('late', { agent_id: 'b' });
  assert.match(lines[0] ?? '', / - WARNING - late agent_id=b \(reqid=abc\)\n$/);
});

test('values under names of secrets are left out, in both formats', () => {
  for (const format of ['text', 'json'] as const) {
    const { lines, log } = capture({ format });
    log.info('x', {
      password: 'hunter2',
      server_key_password: 'hunter2',
      token: 'hunter2',
      v: 'hunter2',
      private_key: 'hunter2',
      version: 'kept',
    });
    assert.ok(!lines.join().includes('hunter2'));
    assert.ok(lines.join().includes('kept'));
  }
});

test('no text forges a line, ends one early or turns its direction', () => {
  const { lines, log } = capture();
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (event, value) => {
      lines.length = 0;
      log.info(event, { value });
      assert.equal(lines.length, 1);
      const line = lines[0] ?? '';
      assert.ok(line.endsWith('\n'));
      assert.doesNotMatch(line.slice(0, -1), /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u);
      assert.ok(line.isWellFormed());
    }),
  );
  log.info('a\nb\u001b[31m', { x: 'c\r\nd' });
  assert.match(lines.at(-1) ?? '', / - a\\nb\\u001b\[31m x="c\\r\\nd"\n$/);
});

test('values that cannot be shown do not make the log throw', () => {
  const { lines, log } = capture();
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  log.info('x', { circle, symbol: Symbol('s'), bytes: Buffer.from([1, 255]) });
  assert.match(lines[0] ?? '', /circle=\[cannot be shown\] symbol=Symbol\(s\) bytes=01ff\n$/);
});

test('a full disk does not stop the process, and its memory does not grow', () => {
  const script = `
    const { openLog } = await import(${JSON.stringify(path.join(import.meta.dirname, 'log.ts'))});
    const log = openLog({ name: 'keylime.x', destination: '/dev/full' });
    for (let i = 0; i < 50000; i++) log.info('x'.repeat(500));
    gc();
    console.log(process.memoryUsage().heapUsed >> 20);`;
  const { stdout } = spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.match(stdout, /^\d+\n$/);
  assert.ok(Number(stdout) < 20, `${stdout} MiB`);
});

test('lines are out before the process is gone, and a reader that left does not stop it', () => {
  const script = `
    const { openLog } = await import(${JSON.stringify(path.join(import.meta.dirname, 'log.ts'))});
    const log = openLog({ name: 'keylime.x' });
    for (let i = 0; i < 2000; i++) log.info('line ' + i);
    process.kill(process.pid, 'SIGKILL');`;
  const killed = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(killed.signal, 'SIGKILL');
  assert.equal(killed.stdout.trimEnd().split('\n').length, 2000);
  const node = `${process.execPath} --input-type=module -e "$SCRIPT; process.stderr.write('still here')"`;
  const left = spawnSync('sh', ['-c', `${node} | head -n 1`], {
    encoding: 'utf8',
    env: { ...process.env, SCRIPT: script.replace(/process\.kill.*/, '') },
  });
  assert.equal(left.stderr, 'still here');
});
