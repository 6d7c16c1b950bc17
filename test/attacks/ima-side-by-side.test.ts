import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { type KernelRecord, measure, recorded } from './ima-records.ts';
import { signedFiles, signer, trusting } from './signed-files.ts';
import { ALLOWED_FILES, FAILED, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Long lists that wait for one thread are judged side by side, by the same policy and in the same memory. Each machine gets
 * the verdict that it would have got alone.
 */
const [file = ''] = ALLOWED_FILES;
const good = recorded(`ima-ng sha256:${digest('sha256', Buffer.from(file)).toString('hex')} ${file}`);
const evil = recorded(`ima-ng sha256:${'ab'.repeat(32)} /usr/bin/evil`);
const forged: KernelRecord = { line: good.line, extend: evil.extend };
const unreadable: KernelRecord = { line: `10 ${'2'.repeat(40)} ima-ng nonsense\n`, extend: good.extend };

/** Some 850 KB: an answer that is judged in a thread. */
const ENTRIES = 7000;
const listWith = (record: KernelRecord, at: number): KernelRecord[] =>
  Array.from({ length: ENTRIES }, (_, i) => (i === at ? record : good));

/** What each machine measured, and the event that is to come of it; none is a pass. */
const MACHINES: readonly { readonly records: KernelRecord[]; readonly event?: RegExp }[] = [
  { records: listWith(good, 0) },
  { records: listWith(evil, 3000), event: /not_in_allowlist/ },
  { records: listWith(good, 0) },
  { records: listWith(forged, 5000), event: /pcr_mismatch|ima_hash/ },
  { records: listWith(evil, ENTRIES - 1), event: /not_in_allowlist/ },
  { records: listWith(unreadable, 1500), event: /parse|pcr_mismatch|ima_hash/ },
  { records: listWith(good, 0) },
  { records: listWith(evil, 511), event: /not_in_allowlist/ },
];

test('[MUST] of machines whose lists are judged side by side each gets its own verdict', async (t) => {
  const verifier = await startAttackedVerifier();
  t.after(() => verifier.stop());
  const by = signer('secp521r1');
  const blocker = await verifier.agent('blocker');
  await verifier.enrol(blocker, trusting(by));
  await verifier.until(blocker.id, ({ attestation_count }) => attestation_count > 0);
  const agents: LyingAgent[] = [];
  for (const [i, { records }] of MACHINES.entries()) {
    const agent = await verifier.agent(`machine-${i}`);
    measure(agent, ...records);
    agents.push(agent);
  }

  // While the one thread is busy all of them come to wait for it.
  const blocked = verifier.handedOver();
  measure(blocker, ...signedFiles(by, 2000));
  await blocked;
  await Promise.all(agents.map((agent) => verifier.enrol(agent)));
  for (const [i, { event }] of MACHINES.entries()) {
    const { id } = agents[i] as LyingAgent;
    const status = await verifier.until(id, (one) => one.attestation_count > 0 || one.operational_state >= FAILED);
    assert.equal(status.attestation_status, event === undefined ? 'PASS' : 'FAIL', id);
    if (event !== undefined) assert.match(`${status.last_event_id}`, event, id);
  }
});
