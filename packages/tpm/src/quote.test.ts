import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import { softwareAk } from '@keylime/testing/software-ak';
import fc from 'fast-check';
import { QuoteAttest } from './attest.ts';
import { checkCodec } from './internal/codec-checks.ts';
import { PcrValues, pcrValues } from './pcr-blob.ts';
import { pcrSelection, withDataPcr } from './pcr-selection.ts';
import {
  declaredAlgorithmMismatches,
  declaredAlgorithmsMatch,
  encodeQuote,
  parseQuote,
  type QuoteExpectation,
  type QuoteParts,
  verifyQuote,
} from './quote.ts';
import { TpmtSignature } from './signature.ts';

const ak = softwareAk();
const nonce = Buffer.from('AbCdEfGhIjKlMnOpQrSt');
const mask = 1 << 10;
const pcrs = new Map([[10, Buffer.alloc(32, 10)]]);
const text = ak.quote({ nonce, mask, pcrs, bindingPublicKeyPem: 'abc' });
const expectation: QuoteExpectation = { ak: ak.public, hashAlg: 'sha256', nonce, mask };

function partsOf(quote: string): QuoteParts {
  const parts = parseQuote(quote);
  assert(!('kind' in parts));
  return parts;
}
const parts = partsOf(text);
const attest = decode(QuoteAttest, parts.attest);

/** The quote with another attested part, properly signed: what a TPM would say if it were asked so. */
function signed(attested: Partial<typeof attest.attested>, blob: PcrValues = decode(PcrValues, parts.pcrBlob)): string {
  const bytes = encode(QuoteAttest, { ...attest, attested: { ...attest.attested, ...attested } });
  return encodeQuote({ attest: bytes, signature: ak.sign(bytes), pcrBlob: encode(PcrValues, blob) });
}

function failureOf(quote: string, changed: Partial<QuoteExpectation> = {}) {
  const result = verifyQuote({ ...expectation, ...changed, text: quote });
  assert(!result.ok, 'the quote was accepted');
  return result.failure;
}
const kind = (quote: string, changed: Partial<QuoteExpectation> = {}) => failureOf(quote, changed).kind;

test('a quote decodes and encodes back to the same bytes, and is refused when damaged', () => {
  checkCodec(QuoteAttest, parts.attest);
  assert.equal(parts.attest.length, 133);
  assert.equal(encodeQuote(parts), text);
});

test('a quote for this nonce over these PCRs is verified', () => {
  const result = verifyQuote({ ...expectation, akKey: ak.publicKey, text });
  assert(result.ok);
  assert.equal(result.quote.bank, 'sha256');
  assert.equal(result.quote.mask, withDataPcr(mask));
  assert.deepEqual([...result.quote.pcrs.keys()], [10, 16]);
  assert.deepEqual(result.quote.pcrs.get(10), pcrs.get(10));
  assert.equal(
    result.quote.pcrs.get(16)?.toString('hex'),
    '589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d',
  );
  assert.equal(result.quote.clockInfo.resetCount, 1);
});

test('RSAPSS and ECDSA quotes of every hash and size are verified', () => {
  for (const hash of ['sha256', 'sha384', 'sha512'] as const) {
    for (const key of [
      { signing: 'rsapss' },
      { encryption: 'rsa3072' },
      { encryption: 'ecc256' },
      { encryption: 'ecc521' },
    ] as const) {
      const other = softwareAk({ ...key, hash });
      const result = verifyQuote({
        ...expectation,
        ak: other.public,
        hashAlg: hash,
        mask: 0xffff,
        text: other.quote({ nonce, mask: 0xffff }),
      });
      assert(result.ok);
      assert.equal(result.quote.pcrs.size, 17);
    }
  }
});

test('text that is not r and three parts of strict base64 is malformed', () => {
  const third = parts.pcrBlob.toString('base64');
  for (const bad of [
    '',
    'r',
    text.slice(1),
    `d${text.slice(1)}`,
    `${text}:`,
    `${text} `,
    `${text}\n`,
    text.replace(third, ''),
  ]) {
    assert.equal(kind(bad), 'quote_malformed', bad.slice(0, 20));
  }
  const unpadded = text.replace(/=+$/, '');
  if (unpadded !== text) assert.equal(kind(unpadded), 'quote_malformed');
  assert.equal(kind(text.replaceAll('+', '-').replaceAll('/', '_')), 'quote_malformed');
});

test('no text at all makes the verification fail in another way than a failure', () => {
  const change = fc.tuple(fc.nat(text.length - 1), fc.constantFrom(...'rAZaz09+/=: '));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const letters = [...text];
      for (const [at, letter] of changes) letters[at] = letter;
      const result = verifyQuote({ ...expectation, text: letters.join('') });
      if (result.ok) assert.deepEqual(result.quote.pcrs.get(10), pcrs.get(10));
    }),
  );
});

test('a quote of another key, or one that was changed, has no valid signature', () => {
  assert.equal(kind(softwareAk().quote({ nonce, mask })), 'quote_signature_invalid');
  for (let at = 0; at < parts.attest.length; at++) {
    const changed = Buffer.from(parts.attest);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(kind(encodeQuote({ ...parts, attest: changed })), 'quote_signature_invalid');
  }
});

test('a signature that is not of the key’s own scheme and the declared hash is refused', () => {
  assert.deepEqual(failureOf(softwareAk({ privateKey: ak.privateKey, signing: 'rsapss' }).quote({ nonce, mask })), {
    kind: 'quote_signature_scheme',
    expected: 'rsassa',
    actual: 'rsapss',
  });
  assert.equal(kind(softwareAk({ encryption: 'ecc256' }).quote({ nonce, mask })), 'quote_signature_scheme');
  assert.deepEqual(failureOf(text, { hashAlg: 'sha384' }), {
    kind: 'quote_hash_mismatch',
    declared: 'sha384',
    actual: 'sha256',
  });
  assert.equal(
    kind(softwareAk({ privateKey: ak.privateKey, hash: 'sha1' }).quote({ nonce, mask })),
    'quote_hash_mismatch',
  );
});

test('an AK that cannot be is a failure, not a crash', () => {
  assert.equal(kind(text, { ak: { ...ak.public, keyBits: 1024 } as never }), 'quote_ak_unusable');
});

test('a certification offered as a quote is malformed', () => {
  const certified = ak.certify(Buffer.alloc(34), nonce);
  assert.equal(kind(encodeQuote({ ...certified, pcrBlob: parts.pcrBlob })), 'quote_malformed');
});

test('bytes that do not begin as a TPM’s own, or of another type, are malformed whoever signed them', () => {
  for (const [at, value] of [
    [0, 0xfe],
    [3, 0x48],
    [5, 0x17],
  ] as const) {
    const changed = Buffer.from(parts.attest);
    changed[at] = value;
    const quote = encodeQuote({ ...parts, attest: changed, signature: ak.sign(changed) });
    assert.deepEqual(failureOf(quote).kind, 'quote_malformed');
  }
});

test('a quote for another nonce is refused', () => {
  assert.equal(kind(text, { nonce: Buffer.from('AbCdEfGhIjKlMnOpQrSu') }), 'quote_nonce_mismatch');
  assert.equal(kind(text, { nonce: Buffer.alloc(0) }), 'quote_nonce_mismatch');
});

test('02 G2: a quote of PCRs 16 and 23 with a blob that says 10 and 16 is refused', () => {
  const values = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const attested = {
    pcrSelect: [pcrSelection('sha256', (1 << 16) | (1 << 23))],
    pcrDigest: digest('sha256', ...values),
  };
  const relabelled = pcrValues('sha256', withDataPcr(mask), values);
  assert.equal(kind(signed(attested, relabelled)), 'quote_pcr_selection');
  const { mask: _, ...oneShot } = expectation;
  const result = verifyQuote({ ...oneShot, text: signed(attested, relabelled) });
  assert(!result.ok);
  assert.deepEqual(result.failure, { kind: 'quote_pcr_blob', problem: 'selection differs from the attested one' });
});

test('02 G3: a quote with fewer or more PCRs than were asked for is refused', () => {
  const fewer = ak.quote({ nonce, mask: 0 });
  assert.deepEqual(failureOf(fewer), { kind: 'quote_pcr_selection', expected: 0x10400, actual: 0x10000 });
  assert.equal(kind(ak.quote({ nonce, mask: mask | 1 })), 'quote_pcr_selection');
  const without16 = { pcrSelect: [pcrSelection('sha256', mask)], pcrDigest: digest('sha256', Buffer.alloc(32, 10)) };
  assert.equal(kind(signed(without16, pcrValues('sha256', mask, [Buffer.alloc(32, 10)]))), 'quote_pcr_selection');
});

test('without a mask the attested PCRs are taken, but not ones that no TPM has', () => {
  const { mask: _, ...oneShot } = expectation;
  assert(verifyQuote({ ...oneShot, text }).ok);
  const high = { pcrSelect: [{ hash: 'sha256', pcrSelect: Buffer.of(0, 0, 0, 1) }] } as const;
  const result = verifyQuote({ ...oneShot, text: signed(high) });
  assert(!result.ok);
  assert.equal(result.failure.kind, 'quote_pcr_selection');
});

test('a quote over another bank, over two, or over none is refused', () => {
  const two = [pcrSelection('sha256', withDataPcr(mask)), pcrSelection('sha1', 0)];
  assert.equal(kind(signed({ pcrSelect: [] })), 'quote_pcr_bank');
  assert.equal(kind(signed({ pcrSelect: two })), 'quote_pcr_bank');
  assert.deepEqual(failureOf(signed({ pcrSelect: [pcrSelection('sha1', withDataPcr(mask))] })), {
    kind: 'quote_pcr_bank',
    expected: 'sha256',
    actual: ['sha1'],
  });
});

test('an all-zero selection means that the bank is not active', () => {
  const inactive = signed({ pcrSelect: [pcrSelection('sha256', 0)], pcrDigest: digest('sha256') });
  assert.deepEqual(failureOf(inactive), { kind: 'pcr_bank_inactive', bank: 'sha256' });
});

test('values that are not those signed, too few, too many or of another length are refused', () => {
  const blob = (values: readonly Buffer[]) =>
    encodeQuote({ ...parts, pcrBlob: encode(PcrValues, { ...decode(PcrValues, parts.pcrBlob), digests: [values] }) });
  const [ten = Buffer.alloc(0), sixteen = Buffer.alloc(0)] = decode(PcrValues, parts.pcrBlob).digests.flat();
  assert.equal(kind(blob([sixteen, ten])), 'quote_pcr_digest_mismatch');
  assert.equal(kind(blob([Buffer.alloc(32), sixteen])), 'quote_pcr_digest_mismatch');
  assert.equal(kind(blob([ten])), 'quote_pcr_blob');
  assert.equal(kind(blob([ten, sixteen, ten])), 'quote_pcr_blob');
  // the same bytes, cut at another place
  const joined = Buffer.concat([ten, sixteen]);
  assert.equal(kind(blob([joined.subarray(0, 20), joined.subarray(20)])), 'quote_pcr_blob');
  assert.equal(kind(blob([joined])), 'quote_pcr_blob');
  assert.equal(kind(encodeQuote({ ...parts, pcrBlob: parts.pcrBlob.subarray(1) })), 'quote_malformed');
});

test('the selection beside the quote is the attested one, in every respect', () => {
  const values = decode(PcrValues, parts.pcrBlob);
  const [selection] = values.selections;
  assert(selection !== undefined);
  const blob = (selections: PcrValues['selections']) =>
    encodeQuote({ ...parts, pcrBlob: encode(PcrValues, { ...values, selections }) });
  assert.equal(kind(blob([])), 'quote_pcr_blob');
  assert.equal(kind(blob([selection, selection])), 'quote_pcr_blob');
  assert.equal(kind(blob([{ ...selection, hash: 4 }])), 'quote_pcr_blob');
  assert.equal(kind(blob([{ ...selection, pcrSelect: Buffer.of(0, 4, 0) }])), 'quote_pcr_blob');
});

test('02 G5: declared names must be those of key and signature', () => {
  const result = verifyQuote({ ...expectation, text });
  assert(result.ok);
  const declared = { hashAlg: 'sha256', encAlg: 'rsa', signAlg: 'rsassa' };
  assert.equal(declaredAlgorithmsMatch(result.quote, declared), true);
  assert.equal(declaredAlgorithmsMatch(result.quote, { ...declared, encAlg: 'rsa2048' }), true);
  assert.deepEqual(
    declaredAlgorithmMismatches(result.quote, { hashAlg: 'sha512', encAlg: 'rsa4096', signAlg: 'ecdsa' }),
    ['hashAlg', 'encAlg', 'signAlg'],
  );
});

test('a signature part of another structure is malformed', () => {
  assert.equal(kind(encodeQuote({ ...parts, signature: Buffer.from('0014', 'hex') })), 'quote_malformed');
  assert.equal(decode(TpmtSignature, parts.signature).type, 'rsassa');
});
