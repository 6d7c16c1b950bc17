import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type CollectedEvidence, collectedAttributes } from '@keylime/api/push-evidence';
import { type PushMachine, startPushMachine } from './push-harness.ts';
import { signedFile, signedFiles, signer, trusting } from './signed-files.ts';
import { type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

/* An agent that pushes sends a long list once: the verifier judges it to its end, over several rounds. */
const by = signer('secp521r1');

async function started(t: TestContext, id: string): Promise<[AttackedVerifier, PushMachine]> {
  const verifier = await startAttackedVerifier({
    settings: { mode: 'push', quote_interval: '0' },
    judging: { roundMs: 30, timeoutMs: 60_000 },
  });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, id);
  t.after(machine.stop);
  await machine.enrol(trusting(by));
  await machine.login();
  return [verifier, machine];
}

/** The evidence with one more entry in its list than the quote covers. */
const withOneMore = (evidence: readonly CollectedEvidence[], line: string): CollectedEvidence[] =>
  evidence.map((item) =>
    item.evidence_type === 'ima_log'
      ? { ...item, data: { entry_count: (item.data.entry_count ?? 0) + 1, entries: item.data.entries + line } }
      : item,
  );

test('[MUST] a long list is one attestation, judged to its end without the agent, and the next goes on behind it', async (t) => {
  const [verifier, machine] = await started(t, 'long');
  const [last, ...files] = signedFiles(by, 400);
  assert.ok(last);
  for (const file of files) await machine.append(file);
  const asked = await machine.offer();
  const sent = withOneMore(await machine.evidence(asked), last.line);
  assert.equal((await machine.send('PATCH', 'latest', collectedAttributes(sent))).code, 202);
  const { number, evaluation } = await machine.verdict();
  assert.deepEqual([number, evaluation], [0, 'pass'], verifier.log().slice(-2000));
  const outcomes = verifier.outcomes('long');
  assert.ok(outcomes.length > 3, String(outcomes));
  assert.deepEqual([...new Set(outcomes)], ['unfinished', 'affirming']);
  assert.equal((await verifier.status('long')).attestation_count, 1);
  await machine.append(last);
  assert.equal((await machine.attest()).evaluation, 'pass');
});

test('[MUST] a forged signature at the end of a long list fails its own attestation', async (t) => {
  const [verifier, machine] = await started(t, 'forged');
  for (const file of signedFiles(by, 300)) await machine.append(file);
  await machine.append(signedFile(by, '/opt/evil', 'something else'));
  const { number, evaluation, results } = await machine.attest();
  assert.deepEqual([number, evaluation], [0, 'fail']);
  assert.match(String(results?.[0]?.context.message), /\/opt\/evil/);
  assert.ok(verifier.outcomes('forged').includes('unfinished'));
});

test('a verifier that is killed in the middle of a long list ends its judgement after it starts again', async (t) => {
  const [verifier, machine] = await started(t, 'killed');
  for (const file of signedFiles(by, 400)) await machine.append(file);
  await machine.push();
  await verifier.until('killed', () => verifier.outcomes('killed').length > 1);
  await verifier.kill();
  await verifier.start();
  assert.deepEqual(
    [(await machine.verdict()).evaluation, (await verifier.status('killed')).attestation_count],
    ['pass', 1],
  );
});
