import assert from 'node:assert/strict';
import { after, before, type TestContext, test } from 'node:test';
import { resourceRequest } from '@keylime/api/push-document';
import { type CollectedEvidence, collectedAttributes, NOTHING_COLLECTED } from '@keylime/api/push-evidence';
import { parseQuote } from '@keylime/tpm/quote';
import { quotePcrs } from '@keylime/tpm/quote-device';
import {
  attributesOf,
  type PushMachine,
  quoteParametersOf,
  refusalOf,
  requestedBy,
  startPushMachine,
} from './push-harness.ts';
import { type Answer, type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

let verifier: AttackedVerifier;

before(async () => {
  verifier = await startAttackedVerifier({ settings: { mode: 'push', quote_interval: '0' } });
});
after(async () => {
  await verifier.stop();
});

/** An enrolled machine with a token. */
async function enrolled(t: TestContext, id: string, changes?: Readonly<Record<string, unknown>>): Promise<PushMachine> {
  const machine = await startPushMachine(verifier, id);
  t.after(machine.stop);
  await machine.enrol(changes);
  await machine.login();
  return machine;
}

const numberIn = (answer: Answer): string => String((answer.json.data as { readonly id: string }).id);
const submit = (machine: PushMachine, negotiated: Answer, evidence: readonly CollectedEvidence[]) =>
  machine.send('PATCH', numberIn(negotiated), collectedAttributes(evidence));

/** The evidence with another quote in it. */
async function withQuote(
  machine: PushMachine,
  negotiated: Answer,
  quote: { readonly of?: PushMachine; readonly nonce?: Uint8Array; readonly mask?: number },
): Promise<CollectedEvidence[]> {
  const [, ...logs] = await machine.evidence(negotiated);
  const { challenge, selected_subjects: selected } = quoteParametersOf(negotiated);
  const asked = (selected.sha256 ?? []).reduce((bits, pcr) => bits | (1 << pcr), 0);
  const { of = machine, nonce = Buffer.from(challenge, 'base64'), mask = asked } = quote;
  const parts = parseQuote(await quotePcrs(of.tpm(), { ak: of.ak(), nonce, mask }));
  assert.ok('attest' in parts);
  const base64 = (bytes: Buffer) => bytes.toString('base64');
  const data = {
    message: base64(parts.attest),
    signature: base64(parts.signature),
    subject_data: base64(parts.pcrBlob),
  };
  return [{ evidence_class: 'certification', evidence_type: 'tpm_quote', data }, ...logs];
}

/** The events of the verdict on evidence that `make` makes. */
async function verdictOn(machine: PushMachine, make: (negotiated: Answer) => Promise<CollectedEvidence[]>) {
  const negotiated = await machine.offer();
  assert.equal(negotiated.code, 201, negotiated.text);
  const sent = await submit(machine, negotiated, await make(negotiated));
  assert.equal(sent.code, 202, sent.text);
  const { evaluation, failure_reason: reason, results = [] } = await machine.verdict();
  return { evaluation, reason, event: results[0]?.event_id, message: results[0]?.context };
}

test('an attestation passes, the next one goes on where it ended, and the agent is not told the verdict', async (t) => {
  const machine = await enrolled(t, 'honest');
  await machine.measure('/usr/bin/allowed');
  const first = await machine.offer();
  assert.equal(first.code, 201, first.text);
  assert.equal(first.headers.location, '/v3.0/agents/honest/attestations/0');
  const [quote, list] = requestedBy(first);
  assert.equal(quote?.evidence_type, 'tpm_quote');
  assert.deepEqual(list?.chosen_parameters, { starting_offset: 0, format: 'text/plain' });
  const sent = await submit(machine, first, await machine.evidence(first));
  assert.equal(sent.code, 202);
  assert.deepEqual(sent.json.meta, { seconds_to_next_attestation: 0 });
  assert.deepEqual([attributesOf(sent).evidence, attributesOf(sent).evaluation], [[], undefined]);
  assert.equal(sent.headers['retry-after'], undefined);
  assert.equal((await machine.verdict()).evaluation, 'pass');
  await machine.measure('/usr/bin/allowed-too');
  const second = await machine.offer();
  assert.deepEqual(requestedBy(second)[1]?.chosen_parameters, { starting_offset: 2, format: 'text/plain' });
  assert.equal((await submit(machine, second, await machine.evidence(second))).code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');
  const status = await verifier.status('honest');
  assert.deepEqual([status.attestation_status, status.attestation_count], ['PASS', 2]);
});

test('[MUST] whatever a verdict is about: quotes of other keys, other nonces, other PCRs, cut lists', async (t) => {
  const machine = await enrolled(t, 'liar');
  const accomplice = await enrolled(t, 'accomplice');
  await machine.measure('/usr/bin/allowed');
  await accomplice.measure('/usr/bin/allowed');
  const stale = await machine.offer();
  const staleNonce = Buffer.from(quoteParametersOf(stale).challenge, 'base64');
  const cutList = async (negotiated: Answer) => {
    const evidence = await machine.evidence(negotiated);
    return evidence.map((one) =>
      one.evidence_type === 'ima_log'
        ? { ...one, data: { ...one.data, entries: `${one.data.entries.split('\n')[0]}\n`.repeat(2) } }
        : one,
    );
  };
  const cases: readonly (readonly [string, (negotiated: Answer) => Promise<CollectedEvidence[]>, string, RegExp])[] = [
    [
      'other key',
      (asked) => withQuote(machine, asked, { of: accomplice }),
      'broken_evidence_chain',
      /not by the attestation key/,
    ],
    ['stale nonce', (asked) => withQuote(machine, asked, { nonce: staleNonce }), 'broken_evidence_chain', /nonce/],
    [
      'more PCRs',
      (asked) => withQuote(machine, asked, { mask: 0xfff }),
      'broken_evidence_chain',
      /PCRs .* were asked for/,
    ],
    ['cut list', cutList, 'broken_evidence_chain', /entries were left out/],
  ];
  for (const [name, make, reason, message] of cases) {
    const verdict = await verdictOn(machine, make);
    assert.deepEqual([verdict.evaluation, verdict.reason], ['fail', reason], name);
    assert.match(JSON.stringify(verdict.message), message, name);
  }
  const status = await verifier.status('liar');
  assert.deepEqual([status.attestation_status, status.attestation_count], ['FAIL', 0]);
});

test('[MUST] evidence is refused before it is judged: fewer PCRs, missing or reordered items, no base64, too short a list', async (t) => {
  const machine = await enrolled(t, 'malformed');
  await machine.measure('/usr/bin/allowed');
  const asked = await machine.offer();
  const [quote, list] = await machine.evidence(asked);
  assert.ok(quote?.evidence_type === 'tpm_quote' && list?.evidence_type === 'ima_log');
  const fewer = await withQuote(machine, asked, { mask: 1 });
  const cases: readonly (readonly [readonly unknown[], RegExp, string])[] = [
    [fewer, /at least the PCRs requested/, 'evidence/0/data/subject_data'],
    [[quote], /in this order/, 'evidence'],
    [[list, quote], /in this order/, 'evidence'],
    [[quote, list, list], /in this order/, 'evidence'],
    [[{ ...quote, data: undefined }, list], /data/, 'evidence/0'],
    [[{ ...quote, data: { ...quote.data, message: '***' } }, list], /base64/, 'evidence/0/data/message'],
    [[{ ...quote, data: { ...quote.data, signature: '' } }, list], /base64/, 'evidence/0/data/signature'],
    [[{ ...quote, data: { ...quote.data, subject_data: 'AAAA' } }, list], /PCR values/, 'evidence/0/data/subject_data'],
    [[quote, { ...list, data: { entries: '', entry_count: 2 } }], /at least 2/, 'evidence/1/data/entry_count'],
    [[quote, { ...list, data: { entries: 7 } }], /string/, 'evidence/1/data/entries'],
  ];
  for (const [evidence, detail, pointer] of cases) {
    const answer = await submit(machine, asked, evidence as CollectedEvidence[]);
    const [code, name, text] = refusalOf(answer);
    assert.deepEqual([code, name], [422, 'invalid_resource_data'], answer.text);
    assert.match(String(text), detail);
    assert.match(answer.text, new RegExp(`"/data/attributes/${pointer}"`));
  }
  // None of it used the challenge up.
  assert.equal((await submit(machine, asked, [quote, list])).code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');
});

test('[MUST] one evidence for each challenge: a repetition changes nothing, other evidence is refused', async (t) => {
  const machine = await enrolled(t, 'twice');
  const asked = await machine.offer();
  const evidence = await machine.evidence(asked);
  assert.equal((await submit(machine, asked, evidence)).code, 202);
  assert.equal((await submit(machine, asked, evidence)).code, 202);
  const [quote, list] = evidence;
  assert.ok(quote?.evidence_type === 'tpm_quote' && list?.evidence_type === 'ima_log');
  const others: readonly CollectedEvidence[][] = [
    await machine.evidence(asked),
    [quote, { ...list, data: { ...list.data, entries: `${list.data.entries}${list.data.entries}` } }],
    [quote],
    [],
  ];
  for (const other of others) {
    assert.deepEqual(refusalOf(await submit(machine, asked, other)).slice(0, 2), [403, 'evidence_immutable']);
  }
  await machine.verdict();
  const late = await submit(machine, asked, await machine.evidence(asked));
  assert.deepEqual(refusalOf(late).slice(0, 2), [403, 'evidence_immutable']);
  // Nor can what was taken become evidence that could not be collected.
  const report = await machine.send('PATCH', numberIn(asked), undefined, {
    json: resourceRequest('error', NOTHING_COLLECTED),
  });
  assert.deepEqual(refusalOf(report).slice(0, 2), [403, 'evidence_immutable']);
  assert.equal((await verifier.status('twice')).attestation_count, 1);
});

test('[MUST] only the newest attestation takes evidence: a new offer takes the place of one that waits', async (t) => {
  const machine = await enrolled(t, 'newest');
  const first = await machine.offer();
  const evidence = await machine.evidence(first);
  const second = await machine.offer();
  assert.equal(Number(numberIn(second)), Number(numberIn(first)) + 1);
  assert.notEqual(quoteParametersOf(first).challenge, quoteParametersOf(second).challenge);
  assert.deepEqual(refusalOf(await submit(machine, first, evidence)).slice(0, 2), [403, 'old_attestation']);
  assert.deepEqual(refusalOf(await machine.send('PATCH', '77', collectedAttributes(evidence))).slice(0, 2), [
    403,
    'old_attestation',
  ]);
  const list = await verifier.ask({ path: '/v3.0/agents/newest/attestations' });
  assert.equal((list.json.data as readonly unknown[]).length, 1, 'what waits is one row, however often it is offered');
  const latest = await machine.send('PATCH', 'latest', collectedAttributes(await machine.evidence(second)));
  assert.equal(latest.code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');
});

test('[MUST] evidence that is sent too often is refused before it is read, and holds up no other agent', async (t) => {
  const machine = await enrolled(t, 'hasty');
  const calm = await enrolled(t, 'calm');
  const asked = await machine.offer();
  const codes = new Map<number, number>();
  for (let n = 0; n < 40; n++) {
    const { code } = await submit(machine, asked, []);
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  const taken = codes.get(422) ?? 0;
  assert.ok(taken >= 20 && taken < 30 && codes.get(429) === 40 - taken, JSON.stringify([...codes]));
  // Of this body one byte comes.
  const headers = {
    ...{ 'content-type': 'application/vnd.api+json', 'content-length': '60000' },
    authorization: `Bearer ${machine.token}`,
  };
  const path = '/v3.0/agents/hasty/attestations/latest';
  const limited = await verifier.ask({ method: 'PATCH', path, body: '{', as: 'nobody', headers });
  assert.deepEqual(refusalOf(limited).slice(0, 2), [429, 'premature_attestation']);
  assert.ok(Number(limited.headers['retry-after']) >= 1);
  assert.equal((await calm.attest()).evaluation, 'pass');
});

test('[MUST] nobody but the agent itself sends evidence: no token, an administrator, another agent', async (t) => {
  const machine = await enrolled(t, 'owner');
  const stranger = await enrolled(t, 'stranger');
  const path = '/v3.0/agents/owner/attestations';
  const asked = await machine.offer();
  const body = collectedAttributes(await machine.evidence(asked));
  const nobody = 'Action submit_attestation requires agent authentication (PoP token)';
  for (const [method, where, attributes] of [
    ['POST', path, machine.capabilities()],
    ['PATCH', `${path}/${numberIn(asked)}`, body],
  ] as const) {
    const noToken = { headers: { 'content-type': 'application/vnd.api+json' } };
    assert.deepEqual(refusalOf(await machine.send(method, where, attributes, noToken)), [403, 'Forbidden', nobody]);
    const asAdmin = await machine.send(method, where, attributes, { ...noToken, as: verifier.admin });
    assert.deepEqual(refusalOf(asAdmin), [403, 'Forbidden', nobody]);
    const other = 'Agent stranger cannot access resource owner (ownership required)';
    assert.deepEqual(refusalOf(await stranger.send(method, where, attributes)), [403, 'Forbidden', other]);
  }
  assert.equal((await submit(machine, asked, body.evidence_collected)).code, 202);
});

test('[MUST] only administrators read attestations, and never more than there is', async (t) => {
  const machine = await enrolled(t, 'read');
  await machine.attest();
  assert.equal((await machine.send('GET', 'latest')).code, 403);
  assert.equal((await machine.send('GET', '')).code, 403);
  const path = '/v3/agents/read/attestations';
  const one = await verifier.ask({ path: `${path}/0` });
  assert.equal(one.code, 200);
  assert.equal(one.headers['content-type'], 'application/vnd.api+json');
  assert.deepEqual([attributesOf(one).evaluation, attributesOf(one).stage], ['pass', 'verification_complete']);
  for (const missing of [`${path}/7`, `${path}/nothing`, '/v3/agents/of-nobody/attestations']) {
    assert.deepEqual(refusalOf(await verifier.ask({ path: missing })).slice(0, 2), [404, 'not_found'], missing);
  }
  const list = await verifier.ask({ path: `${path}?page[size]=1` });
  assert.equal((list.json.data as readonly unknown[]).length, 1);
  const empty = await enrolled(t, 'unread');
  const none = await verifier.ask({ path: `/v3/agents/${empty.id}/attestations` });
  assert.deepEqual([none.code, none.json.data], [200, []]);
});

test('attestations are read page by page, the newest first, each once, and the last page leads nowhere', async (t) => {
  const machine = await enrolled(t, 'paged');
  // All that failed are kept; of those that pass the first and the newest.
  await machine.measure('/usr/bin/implant');
  for (let n = 0; n < 5; n++) assert.equal((await machine.attest()).number, n);
  const numbers: (readonly number[])[] = [];
  const path = '/v3.0/agents/paged/attestations';
  for (let next: string | undefined = `${path}?page[size]=2`; next !== undefined; ) {
    const { code, json, text }: Answer = await verifier.ask({ path: next });
    assert.equal(code, 200, text);
    const { data, links } = json as unknown as {
      readonly data: readonly { readonly id: string }[];
      readonly links: { readonly self: string; readonly next?: string };
    };
    numbers.push(data.map(({ id }) => Number(id)));
    assert.equal(links.self, path);
    assert.ok(numbers.length < 5, 'pages end');
    next = links.next;
  }
  assert.deepEqual(numbers, [[4, 3], [2, 1], [0]]);

  const sizeOf = async (query: string) => {
    const { code, json } = await verifier.ask({ path: `${path}?${query}` });
    assert.equal(code, 200, query);
    return (json.data as readonly unknown[]).length;
  };
  // What is no number says nothing, and no page is empty but the one before the first attestation.
  for (const [query, size] of [
    ['page[before]=2', 2],
    ['page[before]=0', 0],
    ['page[before]=99', 5],
    ['page[before]=-1', 5],
    ['page[size]=0', 1],
    ['page[size]=1000000', 5],
    ['page[size]=x&page[before]=y', 5],
  ] as const) {
    assert.equal(await sizeOf(query), size, query);
  }
});

test('[MUST] what an agent measured that nobody allows is found, told with its path, and judged again each time', async (t) => {
  const machine = await enrolled(t, 'implanted');
  assert.equal((await machine.attest()).evaluation, 'pass');
  await machine.measure('/usr/bin/implant');
  const failed = await machine.attest();
  assert.deepEqual([failed.evaluation, failed.failure_reason], ['fail', 'policy_violation']);
  assert.match(String(failed.results?.[0]?.context.message), /\/usr\/bin\/implant/);
  const again = await machine.attest();
  assert.equal(again.failure_reason, 'policy_violation', 'the entry is not forgotten');
  const status = await verifier.status('implanted');
  assert.deepEqual([status.attestation_status, status.attestation_count], ['FAIL', 1]);
  assert.match(JSON.stringify(status.last_failures), /implant/);
});

test('P1, P2: after a reboot the list begins anew, in good order or not, and whatever the clock on the wall says', async (t) => {
  const machine = await enrolled(t, 'rebooting');
  await machine.measure('/usr/bin/allowed');
  assert.equal((await machine.attest()).evaluation, 'pass');
  await machine.reboot();
  assert.equal((await machine.attest()).evaluation, 'pass');
  await machine.reboot('power cut');
  await machine.measure('/usr/bin/allowed');
  machine.bootTime -= 100_000;
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await machine.attest()).evaluation, 'pass');
});

test('[MUST] a reboot that the agent hides is found by the TPM’s reset count, and nothing is judged of half a list', async (t) => {
  const machine = await enrolled(t, 'hiding');
  await machine.measure('/usr/bin/allowed');
  assert.equal((await machine.attest()).evaluation, 'pass');
  const before = machine.bootTime;
  await machine.reboot();
  machine.bootTime = before;
  await machine.measure('/usr/bin/implant');
  await machine.measure('/usr/bin/allowed');
  const hidden = await machine.attest();
  assert.deepEqual([hidden.evaluation, hidden.failure_reason], ['fail', 'not_judged']);
  assert.match(String(hidden.results?.[0]?.context.message), /machine_was_reset/);
  assert.equal((await verifier.status('hiding')).attestation_count, 1);
  const whole = await machine.attest();
  assert.equal(whole.failure_reason, 'policy_violation', 'the next time the whole list is judged');
});

test('P3: PCRs are what the TPM says they are, not what stands beside the quote', async (t) => {
  const machine = await enrolled(t, 'relabelled');
  const verdict = await verdictOn(machine, async (asked) => {
    const [quote, ...logs] = await machine.evidence(asked);
    // The values of PCR 23, which root can reset, under the name of PCR 10.
    const [forged] = await withQuote(machine, asked, { mask: 0x8003ff });
    assert.ok(quote?.evidence_type === 'tpm_quote' && forged?.evidence_type === 'tpm_quote');
    const data = { ...forged.data, subject_data: quote.data.subject_data };
    return [{ ...forged, data }, ...logs];
  });
  assert.deepEqual([verdict.evaluation, verdict.reason], ['fail', 'broken_evidence_chain']);
  assert.match(JSON.stringify(verdict.message), /quoted were/);
});

test('capabilities that do not do are refused, with what does not fit', async (t) => {
  const machine = await enrolled(t, 'incapable');
  const offers: readonly (readonly [object, RegExp])[] = [
    [{ quote: { component_version: '1.0' } }, /component_version is 2\.0/],
    [{ quote: { signature_schemes: ['rsassa'] } }, /the AK signs with ecdsa/],
    [{ quote: { hash_algorithms: ['sha1'] } }, /the AK hashes with sha256/],
    [{ quote: { available_subjects: { sha256: [1, 2, 3] } } }, /correct numbered PCRs/],
    [
      {
        quote: {
          certification_keys: [
            { key_class: 'asymmetric', key_algorithm: 'rsa', key_size: 2048, server_identifier: 'ak' },
          ],
        },
      },
      /certification_keys/,
    ],
    [{ quote: { available_subjects: [] } }, /must be object/],
    [{ ima: { formats: ['application/cbor'] } }, /must include text\/plain/],
    [{ ima: { supports_partial_access: false } }, /must be true/],
    [{ ima: { entry_count: -1 } }, />= 0/],
    [{ ima: { entry_count: null } }, /number of entries/],
  ];
  for (const [changes, detail] of offers) {
    const answer = await machine.offer(machine.capabilities(changes));
    assert.deepEqual(refusalOf(answer).slice(0, 2), [422, 'invalid_resource_data'], answer.text);
    assert.match(answer.text, detail);
    assert.match(answer.text, /Attribute 'evidence' /);
  }
  for (const boot_time of ['yesterday', 1e13, 1e300]) {
    const noTime = await machine.offer({ ...machine.capabilities(), system_info: { boot_time } });
    assert.equal(noTime.code, 422, noTime.text);
    assert.match(noTime.text, /"\/data\/attributes\/system_info\/boot_time"/);
  }
  const noList = await machine.offer({ ...machine.capabilities(), evidence_supported: [] });
  assert.equal(noList.code, 422);
});

test('[MUST] an agent does not fill the database: what nobody asked for is not kept, and what is kept is short', async (t) => {
  const machine = await enrolled(t, 'hoarder');
  const junk = 'x'.repeat(50_000);
  const subjects = { sha256: Array.from({ length: 24 }, (_, pcr) => pcr), [junk]: [1] };
  const quote = { available_subjects: subjects, junk };
  const asked = await machine.offer(machine.capabilities({ quote, ima: { junk } }));
  assert.equal(asked.code, 201, asked.text);
  assert.deepEqual(Object.keys(quoteParametersOf(asked).selected_subjects), ['sha256']);
  const evidence = await machine.evidence(asked);
  const [first, list] = evidence;
  assert.ok(first?.evidence_type === 'tpm_quote' && list);
  for (const member of ['message', 'signature', 'subject_data'] as const) {
    const padded = { ...first, data: { ...first.data, [member]: 'A'.repeat(1_000_000) } };
    const refused = await submit(machine, asked, [padded, list]);
    assert.deepEqual(refusalOf(refused).slice(0, 2), [422, 'invalid_resource_data'], member);
  }
  assert.equal((await submit(machine, asked, evidence)).code, 202);
  await machine.verdict();
  const kept = await verifier.ask({ path: '/v3/agents/hoarder/attestations/latest' });
  assert.ok(kept.text.length < 10_000 && !kept.text.includes('xxxx'), kept.text.slice(0, 2000));
  const large = await machine.offer(machine.capabilities({ quote: { junk: junk.repeat(6) } }));
  assert.equal(large.code, 413);
});

test('an attestation that is sent as something else, or is no document, is refused', async (t) => {
  const machine = await enrolled(t, 'odd');
  const headers = { authorization: `Bearer ${machine.token}` };
  const asJson = await machine.send('POST', '', machine.capabilities(), {
    headers: { ...headers, 'content-type': 'application/json' },
  });
  assert.equal(asJson.code, 415);
  const api = { ...headers, 'content-type': 'application/vnd.api+json' };
  const path = '/v3.0/agents/odd/attestations';
  const noJson = await verifier.ask({ method: 'POST', path, body: '{', as: 'nobody', headers: api });
  assert.equal(noJson.code, 400);
  const asked = await machine.offer();
  const report = await verifier.ask({
    method: 'PATCH',
    path: `${path}/${numberIn(asked)}`,
    json: { data: { type: 'error', attributes: { evidence_collected: [] } } },
    as: 'nobody',
    headers: api,
  });
  assert.deepEqual(refusalOf(report).slice(0, 2), [400, 'invalid_request']);
  assert.match(verifier.log(), /could not collect its evidence/);
});

test('an agent without any policy still proves its AK and that it lives', async (t) => {
  const machine = await enrolled(t, 'plain', { runtime_policy: '', tpm_policy: '{"mask": "0x0"}' });
  const asked = await machine.offer();
  assert.deepEqual(quoteParametersOf(asked).selected_subjects, { sha256: [0] });
  assert.equal(requestedBy(asked).length, 1);
  assert.equal((await submit(machine, asked, await machine.evidence(asked))).code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');
  assert.equal((await verifier.status('plain')).attestation_status, 'PASS');
});

test('a key share is not taken where it cannot be delivered', async (t) => {
  const machine = await startPushMachine(verifier, 'payload');
  t.after(machine.stop);
  await assert.rejects(machine.enrol({ v: Buffer.alloc(32).toString('base64') }), /agents that push take no payload/);
});
