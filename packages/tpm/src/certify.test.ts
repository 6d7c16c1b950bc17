import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@keylime/core/codec';
import { softwareAk } from '@keylime/testing/software-ak';
import { CertifyAttest } from './attest.ts';
import { verifyCertify } from './certify.ts';
import { checkCodec } from './internal/codec-checks.ts';
import { objectName } from './public.ts';
import { parseQuote } from './quote.ts';

const iak = softwareAk({ signing: 'rsapss' });
const ak = softwareAk();
const nonce = Buffer.from('agent-1');
const certifiedName = objectName(ak.public);
const { attest, signature } = iak.certify(certifiedName, nonce);
const good = {
  attest,
  signature,
  signer: iak.public,
  qualifyingData: [Buffer.from('another form'), nonce],
  certifiedName,
};

const kind = (changed: Partial<typeof good> | { signer: typeof iak.publicKey }) => {
  const result = verifyCertify({ ...good, ...changed });
  return result.ok ? 'ok' : result.failure.kind;
};

test('a certification decodes, encodes back and is refused when damaged', () => checkCodec(CertifyAttest, attest));

test('a certification of the right object, by the right key, for this question, is accepted', () => {
  assert.equal(kind({}), 'ok');
  assert.equal(kind({ signer: iak.publicKey }), 'ok');
  const ecc = softwareAk({ encryption: 'ecc384', hash: 'sha384' });
  assert.equal(kind({ ...ecc.certify(certifiedName, nonce), signer: ecc.public }), 'ok');
});

test('each thing that is wrong has its kind', () => {
  assert.equal(kind({ signer: ak.public }), 'certify_signature_invalid');
  assert.equal(kind({ qualifyingData: [Buffer.from('agent-2')] }), 'certify_qualifying_data_mismatch');
  assert.equal(kind({ qualifyingData: [] }), 'certify_qualifying_data_mismatch');
  assert.equal(kind({ certifiedName: objectName(iak.public) }), 'certify_name_mismatch');
  assert.equal(kind({ attest: attest.subarray(1) }), 'certify_malformed');
  assert.equal(kind({ signature: signature.subarray(1) }), 'certify_malformed');
  assert.equal(kind({ signer: { ...iak.public, keyBits: 1024 } as never }), 'certify_signer_unusable');
});

test('a changed certification is refused', () => {
  const changed = { ...decode(CertifyAttest, attest), firmwareVersion: 99n };
  assert.equal(kind({ attest: encode(CertifyAttest, changed) }), 'certify_signature_invalid');
});

test('a quote offered as a certification is malformed', () => {
  const quote = parseQuote(iak.quote({ nonce, mask: 0 }));
  assert(!('kind' in quote));
  assert.equal(kind({ attest: quote.attest, signature: quote.signature }), 'certify_malformed');
});
