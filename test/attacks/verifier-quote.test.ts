import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { encode } from '@keylime/core/codec';
import { digest, extend } from '@keylime/core/digest';
import { forgedQuote, truthfulValues } from '@keylime/testing/forged-quote';
import type { Lies, LyingAgent } from '@keylime/testing/lying-agent';
import { softwareAk } from '@keylime/testing/software-ak';
import { PcrValues, pcrValues } from '@keylime/tpm/pcr-blob';
import { objectName } from '@keylime/tpm/public';
import { encodeQuote, parseQuote, type QuoteParts } from '@keylime/tpm/quote';
import { type AttackedVerifier, assertCaught, assertFails, FAILED, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Root on an enrolled machine answers requests for a quote. It cannot sign with the AK what it likes, but it can have the
 * TPM quote any PCRs about any nonce, reset PCRs 16 and 23, and write whatever it wants around the quote.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier();
});
after(() => verifier?.stop());

const QUOTE = 'qoute_validation.quote_validation';
const IMA = 1 << 10;
const DATA = 1 << 16;
const DEBUG_23 = 1 << 23;
const sha256 = (mask: number) => ({ bank: 'sha256', mask }) as const;

type Attack = {
  readonly name: string;
  readonly lies: (agent: LyingAgent) => Lies;
  readonly event: string;
  readonly message: RegExp;
};

/** Takes a truthful quote apart and puts it together again otherwise. */
const rewritten =
  (change: (parts: QuoteParts) => Partial<QuoteParts>) =>
  ({ ak }: LyingAgent): Lies => ({
    quote: (truth) => {
      const parts = parseQuote(ak.quote(truth));
      if ('kind' in parts) throw new Error(parts.problem);
      return encodeQuote({ ...parts, ...change(parts) });
    },
  });

const declares = (names: Readonly<Record<string, unknown>>) => (): Lies => ({
  results: (truth) => ({ ...truth, ...names }),
});

const attacks: readonly Attack[] = [
  {
    name: 'hole 2: PCRs 16 and 23, which root can reset, relabelled as 10 and 16',
    lies: ({ ak }) => ({
      quote: (truth) => {
        const values = [...truthfulValues(truth).values()];
        const attested = [sha256(DATA | DEBUG_23)];
        return forgedQuote(ak, truth, { attested, labelled: sha256(IMA | DATA), values });
      },
    }),
    event: QUOTE,
    message: /PCRs 10,16 were asked for, quoted were 16,23/,
  },
  {
    name: 'the right PCRs attested, other ones named beside the quote',
    lies: rewritten(({ pcrBlob }) => {
      const blob = Buffer.from(pcrBlob);
      blob.writeUInt8(0x08, 8); // PCR 11 instead of 10
      return { pcrBlob: blob };
    }),
    event: QUOTE,
    message: /selection differs from the attested one/,
  },
  {
    name: 'hole 2: a quote without PCR 10, so that no list is looked at',
    lies: ({ ak }) => ({ quote: (truth) => ak.quote({ ...truth, mask: 0 }) }),
    event: QUOTE,
    message: /PCRs 10,16 were asked for, quoted were 16/,
  },
  {
    name: 'a quote without PCR 16, so that no key is bound',
    lies: ({ ak }) => ({
      quote: (truth) => {
        const [ima = Buffer.alloc(32)] = truthfulValues(truth).values();
        return forgedQuote(ak, truth, { attested: [sha256(IMA)], labelled: sha256(IMA), values: [ima] });
      },
    }),
    event: QUOTE,
    message: /PCRs 10,16 were asked for, quoted were 10\b/,
  },
  {
    name: 'more PCRs than were asked for',
    lies: ({ ak }) => ({ quote: (truth) => ak.quote({ ...truth, mask: truth.mask | 1 }) }),
    event: QUOTE,
    message: /PCRs 10,16 were asked for, quoted were 0,10,16/,
  },
  {
    name: 'PCRs of another bank, in which nobody measures',
    lies: ({ ak }) => ({
      quote: (truth) => {
        const bank = { bank: 'sha1', mask: IMA | DATA } as const;
        return forgedQuote(ak, truth, {
          attested: [bank],
          labelled: bank,
          values: [Buffer.alloc(20), Buffer.alloc(20)],
        });
      },
    }),
    event: QUOTE,
    message: /PCRs of bank sha256 were asked for, quoted were sha1/,
  },
  {
    name: 'a second selection in the quote',
    lies: ({ ak }) => ({
      quote: (truth) => {
        const labelled = sha256(IMA | DATA);
        const values = [...truthfulValues(truth).values()];
        return forgedQuote(ak, truth, { attested: [labelled, { bank: 'sha1', mask: 0 }], labelled, values });
      },
    }),
    event: QUOTE,
    message: /quoted were sha256, sha1/,
  },
  {
    name: 'PCR values that the quote does not sign',
    lies: rewritten(() => ({
      pcrBlob: encode(PcrValues, pcrValues('sha256', IMA | DATA, [Buffer.alloc(32), Buffer.alloc(32)])),
    })),
    event: QUOTE,
    message: /not those that the quote signs/,
  },
  {
    name: 'a quote about a nonce of its own',
    lies: ({ ak }) => ({ quote: (truth) => ak.quote({ ...truth, nonce: Buffer.from('A'.repeat(20)) }) }),
    event: QUOTE,
    message: /not about the nonce/,
  },
  {
    name: 'no nonce at all',
    lies: ({ ak }) => ({ quote: (truth) => ak.quote({ ...truth, nonce: Buffer.alloc(0) }) }),
    event: QUOTE,
    message: /not about the nonce/,
  },
  {
    name: 'a quote by another key of the same kind',
    lies: () => ({ quote: softwareAk({ encryption: 'ecc256' }).quote }),
    event: QUOTE,
    message: /not by the attestation key/,
  },
  {
    name: 'a quote by a key of another kind',
    lies: () => ({ quote: softwareAk({ encryption: 'rsa2048' }).quote }),
    event: QUOTE,
    message: /signed with rsassa, the attestation key signs with ecdsa/,
  },
  {
    name: 'a changed quote under the old signature',
    lies: rewritten(({ attest }) => {
      const changed = Buffer.from(attest);
      changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
      return { attest: changed };
    }),
    event: QUOTE,
    message: /not by the attestation key/,
  },
  {
    name: 'a certification of a key, which the AK signs as well, offered as a quote',
    lies: ({ ak }) => ({
      quote: (truth) => {
        const values = [...truthfulValues(truth).values()];
        const pcrBlob = encode(PcrValues, pcrValues('sha256', IMA | DATA, values));
        return encodeQuote({ ...ak.certify(objectName(ak.public), truth.nonce), pcrBlob });
      },
    }),
    event: QUOTE,
    message: /malformed \(attest\)/,
  },
  ...(
    [
      ['of another type than a quote, with all that a quote says', 0x8014, 4],
      ['that no TPM made: bytes from outside do not begin so', 0xff55, 0],
    ] as const
  ).map(([name, value, at]) => ({
    name: `a structure ${name}`,
    lies: (agent: LyingAgent) =>
      rewritten(({ attest }) => {
        const changed = Buffer.from(attest);
        changed.writeUInt16BE(value, at);
        return { attest: changed, signature: agent.ak.sign(changed) };
      })(agent),
    event: QUOTE,
    message: /malformed \(attest\)/,
  })),
  {
    name: '02 G5: a hash algorithm that is accepted declared for another one',
    lies: declares({ hash_alg: 'sha384' }),
    event: QUOTE,
    message: /hashed with sha256, declared is sha384/,
  },
  {
    name: '02 G5: an encryption algorithm that is accepted declared for another one',
    lies: declares({ enc_alg: 'rsa2048' }),
    event: 'qoute_validation.invalid_enc_alg',
    message: /declared as 'rsa2048' but is 'ecc256'/,
  },
  {
    name: '02 G5: a signing algorithm that is accepted declared for another one',
    lies: declares({ sign_alg: 'rsassa' }),
    event: 'qoute_validation.invalid_sign_alg',
    message: /declared as 'rsassa' but is 'ecdsa'/,
  },
  {
    name: 'an algorithm that the operator does not accept',
    lies: declares({ hash_alg: 'sha1' }),
    event: 'qoute_validation.invalid_hash_alg',
    message: /'sha1' is not accepted/,
  },
  {
    name: 'an algorithm that nobody knows, with characters that a database refuses',
    lies: declares({ hash_alg: 'sha256\u0000', sign_alg: 'ecdsa\ud800' }),
    event: 'qoute_validation.invalid_data',
    message: /hash_alg/,
  },
  {
    name: 'a megabyte for the name of an algorithm',
    lies: declares({ enc_alg: 'e'.repeat(400_000) }),
    event: 'qoute_validation.invalid_data',
    message: /enc_alg/,
  },
  {
    name: 'a transport key that PCR 16 does not bind',
    lies: declares({ pubkey: '-----BEGIN PUBLIC KEY-----\nattacker\n-----END PUBLIC KEY-----\n' }),
    event: 'pcr_validation.invalid_pcr_16',
    message: /PCR 16 does not bind the key/,
  },
  {
    name: 'a PCR 16 that binds another key than the one kept',
    lies: ({ ak }) => ({ quote: (truth) => ak.quote({ ...truth, bindingPublicKeyPem: 'attacker' }) }),
    event: 'pcr_validation.invalid_pcr_16',
    message: /PCR 16 does not bind the key/,
  },
  {
    name: 'a quote that is none',
    lies: declares({ quote: 'r:::' }),
    event: QUOTE,
    message: /malformed \(text\): 3 parts wanted, 4 found/,
  },
  {
    name: 'a quote that is not base64',
    lies: declares({ quote: 'rAAA=A:AAAA:AAAA' }),
    event: QUOTE,
    message: /malformed \(attest\): not base64/,
  },
  {
    name: 'no quote',
    lies: declares({ quote: null }),
    event: 'qoute_validation.invalid_data',
    message: /quote: it is missing/,
  },
  {
    name: 'a signature cut short',
    lies: rewritten(({ signature }) => ({ signature: signature.subarray(0, 30) })),
    event: QUOTE,
    message: /malformed \(signature\)/,
  },
  {
    name: 'PCR values cut short',
    lies: rewritten(({ pcrBlob }) => ({ pcrBlob: pcrBlob.subarray(0, 140) })),
    event: QUOTE,
    message: /malformed \(pcrBlob\)/,
  },
  {
    name: 'bytes after the PCR values',
    lies: rewritten(({ pcrBlob }) => ({ pcrBlob: Buffer.concat([pcrBlob, Buffer.alloc(1)]) })),
    event: QUOTE,
    message: /malformed \(pcrBlob\)/,
  },
];

for (const [n, { name, lies, ...expected }] of attacks.entries()) {
  test(`[MUST] caught: ${name}`, async () => {
    const agent = await verifier.agent(`quote-${n}`);
    await assertCaught(verifier, agent, lies(agent), expected);
  });
}

test('[MUST] caught: an old quote sent again, although all of it once was true', async () => {
  const agent = await verifier.agent('replayed');
  let old: Record<string, unknown> | undefined;
  const lies: Lies = {
    results: (truth) => {
      old ??= { ...truth };
      return old;
    },
  };
  agent.lie(lies);
  await verifier.enrol(agent);
  await verifier.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  agent.lie();
  const status = await verifier.status(agent.id);
  assert.deepEqual(
    [status.attestation_count, status.last_event_id],
    [1, QUOTE],
    'the first was new, its copies were not',
  );
  assert.match(String(status.last_failures[0]?.context.error), /not about the nonce/);
});

test('[MUST] caught: PCRs of the policy that have another value, or only the name of another PCR', async () => {
  const allowed = digest('sha256', Buffer.from('good firmware')).toString('hex');
  const tpm_policy = JSON.stringify({ 0: allowed, mask: '0x401' });
  const agent = await verifier.agent('static-pcr');
  const good = extend('sha256', Buffer.alloc(32), Buffer.alloc(32));
  agent.lie({ quote: (truth) => agent.ak.quote({ ...truth, pcrs: new Map([...(truth.pcrs ?? []), [0, good]]) }) });
  await verifier.enrol(agent, { tpm_policy });
  await assertFails(verifier, agent, { event: 'pcr_validation.invalid_pcr_0', message: /PCR 0 has a value/ });
});

test('[MUST] caught: no transport key, on the first quote', async () => {
  const agent = await verifier.agent('keyless');
  agent.lie({ results: ({ pubkey: _, ...truth }) => truth });
  await verifier.enrol(agent);
  await assertFails(verifier, agent, { event: 'qoute_validation.no_pubkey', message: /No public key/ });
});
