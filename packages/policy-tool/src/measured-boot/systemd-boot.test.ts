import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeEventLog } from '@keylime/event-log/decode';
import type { StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { strict } from '@keylime/measured-boot/strict';
import { runTool } from '../tool.fixture.ts';
import { judgeReference } from './judge-reference.ts';
import type { PredictionReport } from './prediction-report.ts';
import type { EventLogReport } from './show-event-log.ts';
import { vectorFile } from './vectors.fixture.ts';

const file = (name: string): string => vectorFile('debian12-systemd-boot-vm', name);

/** The PCRs that a machine showed, as `BANK INDEX VALUE`. */
const quoted = (boot: string): ReadonlySet<string> =>
  new Set(
    readFileSync(file(`${boot}-pcrs.txt`), 'utf8')
      .trim()
      .split('\n'),
  );

async function output<T>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await runTool(args);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

for (const boot of ['uki-a', 'uki-b', 'entry-a', 'entry-b']) {
  test(`the log ${boot} leads to the PCRs of the machine, and makes a reference state that accepts it and no other`, async () => {
    const { pcrs } = await output<EventLogReport>('show', 'event-log', '--json', file(`${boot}.bin`));
    for (const bank of ['sha1', 'sha256', 'sha384']) {
      for (const [pcr, value] of Object.entries(pcrs[bank] ?? {})) {
        assert.ok(quoted(boot).has(`${bank} ${pcr} ${value}`), `PCR ${pcr} of ${bank}`);
      }
    }
    const made = await output<StrictReferenceJson>('create', 'measured-boot', '-i', '-e', file(`${boot}.bin`));
    for (const other of ['uki-a', 'uki-b', 'entry-a', 'entry-b']) {
      const violations = judgeReference(strict, made, decodeEventLog(readFileSync(file(`${other}.bin`))), 'sha256');
      assert.equal(violations.length === 0, other === boot, `${other}: ${JSON.stringify(violations)}`);
    }
  });
}

test('the chain of a unified kernel image is shown with its sections', async () => {
  const { bootChain } = await output<EventLogReport>('show', 'event-log', '--json', file('uki-a.bin'));
  assert.deepEqual(
    bootChain.map(({ role, what }) => (role === 'section' ? what : role)),
    [
      ...['boot_loader', 'unified_kernel', 'command_line'],
      ...['.linux', '.osrel', '.cmdline', '.initrd'].flatMap((name) => [name, name]),
      ...['command_line', 'kernel', 'command_line', 'initrd'],
    ],
  );
});

test('the command line of the next boot of an entry is predicted in PCR 12, and its form in PCR 9', async () => {
  const commandLine = 'initrd=\\initrd console=ttyS0 panic=1 loglevel=3';
  const { pcrs, unknown } = await output<PredictionReport>(
    ...['predict', '--json', '-e', file('entry-a.bin'), '--cmdline', commandLine],
  );
  assert.deepEqual(unknown, {});
  for (const bank of ['sha1', 'sha256', 'sha384']) {
    for (const pcr of [4, 12]) assert.ok(quoted('entry-b').has(`${bank} ${pcr} ${pcrs[bank]?.[pcr]}`));
    // The initrd is another one in that boot.
    assert.ok(!quoted('entry-b').has(`${bank} 9 ${pcrs[bank]?.[9]}`));
  }
});
