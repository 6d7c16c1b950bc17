import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuoteParameters, RequestedEvidence } from '@keylime/api/push-parameters';
import { softwareAk } from '@keylime/testing/software-ak';
import { encodeQuote } from '@keylime/tpm/quote';
import type { PushAttester } from './attester.ts';
import type { ListPart } from './measurement-list.ts';
import { attestationIndex } from './push-attestation.ts';
import { collectEvidence } from './push-evidence.ts';

const ak = softwareAk();
const TEXT = '10 aa ima-ng sha256:bb /a\n10 cc ima-ng sha256:dd /b\n10 half';

/** Sources that write down in which order they are asked. */
function machine(list: ListPart | undefined = { firstEntry: 0, content: { kind: 'text', text: TEXT } }) {
  const asked: string[] = [];
  const attester: PushAttester = {
    ...{ hashAlg: 'sha256', signAlg: 'rsassa', encAlg: 'rsa2048', akHandle: () => 1 },
    abilities: async () => ({ banks: new Map(), signing: [], ak: { public: ak.public, name: Buffer.alloc(34) } }),
    certifyAk: async (data) => ak.certify(Buffer.alloc(34), data),
    quote: async ({ nonce, mask, bindingPublicKeyPem }) => {
      asked.push(`quote ${Buffer.from(nonce).toString('hex')} ${mask.toString(16)} ${bindingPublicKeyPem}`);
      return encodeQuote({ attest: Buffer.of(1), signature: Buffer.of(2), pcrBlob: Buffer.of(3) });
    },
  };
  const sources = {
    attester,
    measurementList: {
      countEntries: async () => 2,
      readFrom: async (from: number) => {
        asked.push(`list ${from}`);
        return list;
      },
    },
    bootLog: { read: () => undefined },
  };
  const collect = (...requested: readonly RequestedEvidence[]) => collectEvidence(requested, sources);
  return { asked, collect };
}

const quote = (chosen: Partial<QuoteParameters> = {}): RequestedEvidence => ({
  evidence_class: 'certification',
  evidence_type: 'tpm_quote',
  chosen_parameters: {
    challenge: 'q80=',
    signature_scheme: 'rsassa',
    hash_algorithm: 'sha256',
    selected_subjects: { sha256: [0, 23], sha1: null },
    ...chosen,
  },
});
const log = (type: 'ima_log' | 'uefi_log', chosen: object = {}): RequestedEvidence => ({
  evidence_class: 'log',
  evidence_type: type,
  chosen_parameters: chosen,
});

test('[MUST] the quote is made before the list is read, and evidence comes in the order in which it was asked for', async () => {
  const { asked, collect } = machine();
  const collected = await collect(log('ima_log'), quote());
  assert.deepEqual(asked, ['quote abcd 800001 undefined', 'list 0']);
  assert.deepEqual(
    collected.map((one) => one.evidence_type),
    ['ima_log', 'tpm_quote'],
  );
  assert.deepEqual(collected[1]?.data, { message: 'AQ==', signature: 'Ag==', subject_data: 'Aw==' });
});

test('of the list whole lines are sent, as many as the verifier takes, each with its newline', async () => {
  const { collect } = machine();
  const entries = async (chosen?: object) => (await collect(log('ima_log', chosen)))[0]?.data;
  const [first = '', second = ''] = TEXT.split('\n');
  assert.deepEqual(await entries(), { entries: `${first}\n${second}\n`, entry_count: 2 });
  assert.deepEqual(await entries({ entry_count: 1 }), { entries: `${first}\n`, entry_count: 1 });
  assert.deepEqual(await entries({ entry_count: 0 }), { entries: '', entry_count: 0 });
  assert.deepEqual(await entries({ entry_count: 9 }), { entries: `${first}\n${second}\n`, entry_count: 2 });
});

test('a long list is put together, and let go of', async () => {
  let released = 0;
  const pieces = (function* () {
    yield 'a\nb\n';
    yield 'c\n';
  })();
  const { collect } = machine({ firstEntry: 7, content: { kind: 'pieces', pieces, release: () => released++ } });
  const [list] = await collect(log('ima_log', { starting_offset: 7 }));
  assert.deepEqual([list?.data, released], [{ entries: 'a\nb\nc\n', entry_count: 3 }, 1]);
});

test('[MUST] entries are never sent under other numbers than those asked for', async () => {
  const content = { kind: 'text', text: TEXT } as const;
  const removed = machine({ firstEntry: 5, content }).collect(log('ima_log', { starting_offset: 2 }));
  await assert.rejects(removed, { code: 'evidence_unavailable', message: /has removed those before 5: reboot/ });
  const shorter = machine({ firstEntry: 0, content }).collect(log('ima_log', { starting_offset: 9 }));
  await assert.rejects(shorter, { code: 'evidence_unavailable', message: /shorter now/ });
});

test('logs that are not there are empty, and other formats are not there', async () => {
  const none = machine(undefined);
  const collect = async (...requested: readonly RequestedEvidence[]) =>
    (await none.collect(...requested)).map(({ data }) => data);
  assert.deepEqual(await collect(log('uefi_log'), log('ima_log', { starting_offset: null })), [
    { entries: '' },
    { entries: TEXT.slice(0, -'10 half'.length), entry_count: 2 },
  ]);
  for (const type of ['ima_log', 'uefi_log'] as const) {
    await assert.rejects(collect(log(type, { format: 'application/cbor' })), { code: 'evidence_unavailable' });
  }
});

test('a quote that this AK cannot make is refused, and one without challenge or PCRs is no question', async () => {
  const { collect } = machine();
  await assert.rejects(collect(quote({ signature_scheme: 'rsapss' })), { code: 'evidence_unavailable' });
  await assert.rejects(collect(quote({ hash_algorithm: 'sha1' })), { code: 'evidence_unavailable' });
  for (const odd of [
    quote({ challenge: 'not base64' }),
    quote({ selected_subjects: { sha256: [] } }),
    quote({ selected_subjects: { sha256: null, sha1: [1] } }),
    quote({ selected_subjects: { sha256: [24] } }),
  ]) {
    await assert.rejects(collect(odd), { code: 'answer_malformed' });
  }
});

test('[MUST] of Location only the number counts, and only if it leads to an attestation of this agent at this verifier', () => {
  const path = '/v3.0/agents/a-1/attestations';
  const of = (location: string | undefined) => attestationIndex(location, { path, verifierUrl: 'https://v:8881' });
  for (const good of [
    '/v3.0/agents/a-1/attestations/17',
    '//v3.0//agents/a-1/attestations/17',
    '/3/agents/a-1/attestations/17',
    '/v3/agents/a-1/attestations/17',
    'https://v:8881/v3.0/agents/a-1/attestations/17',
  ]) {
    assert.equal(of(good), '17');
  }
  for (const odd of [
    undefined,
    '',
    '/v3.0/agents/a-2/attestations/17',
    '/v3.0/agents/a-1/attestations/../../a-2/attestations/17',
    '/v3.0/agents/a-1/attestations/17/x',
    '/v3.0/agents/a-1/attestations/x',
    '/v2.6/agents/a-1/attestations/17',
    'https://v:8882/v3.0/agents/a-1/attestations/17',
    'http://v:8881/v3.0/agents/a-1/attestations/17',
    '//other/v3.0/agents/a-1/attestations/17',
  ]) {
    assert.throws(() => of(odd), { code: 'answer_malformed' });
  }
});
