import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CapabilitiesAttributes,
  LogCapabilities,
  type OfferedAttributes,
  QuoteCapabilities,
} from './push-capabilities.ts';
import { documentOf, resource } from './push-document.ts';
import {
  CollectedAttributes,
  CollectedImaLog,
  CollectedQuote,
  collectedAttributes,
  NOTHING_COLLECTED,
  secondsToNextAttestation,
} from './push-evidence.ts';
import { NegotiatedAttributes } from './push-parameters.ts';
import {
  ProofAttributes,
  ProvedSessionAttributes,
  proofAttributes,
  SessionAttributes,
  SessionRequestAttributes,
  sessionAttributes,
  sessionRequestAttributes,
} from './push-session.ts';
import { parseBySchema } from './push-value.ts';

const refused = (schema: Parameters<typeof parseBySchema>[0], value: unknown) => {
  const parsed = parseBySchema(schema, value);
  return parsed.ok ? 'accepted' : parsed.problem.pointer;
};

test('the four messages of a session fit their schemas, as built here and as existing programs write them', () => {
  assert.ok(parseBySchema(SessionRequestAttributes, sessionRequestAttributes('a')).ok);
  assert.ok(parseBySchema(ProofAttributes, proofAttributes('a', Buffer.of(1), Buffer.of(2))).ok);
  const times = { createdAtMs: 0, challengeExpiresAtMs: 60_000 };
  assert.ok(parseBySchema(SessionAttributes, sessionAttributes('a', Buffer.alloc(16), times)).ok);
  assert.ok(parseBySchema(ProvedSessionAttributes, { agent_id: 'a', evaluation: 'fail', token_expires_at: null }).ok);
  assert.equal(refused(SessionRequestAttributes, { agent_id: '', authentication_supported: [] }), '/agent_id');
  assert.equal(
    refused(ProofAttributes, { agent_id: 'a', authentication_provided: [{}] }),
    '/authentication_provided/0',
  );
});

/** As the existing agent offers it. */
const offered: OfferedAttributes = {
  evidence_supported: [
    {
      evidence_class: 'certification',
      evidence_type: 'tpm_quote',
      capabilities: {
        component_version: '2.0',
        hash_algorithms: ['sha1', 'sha256'],
        signature_schemes: ['ecdsa', 'rsassa'],
        available_subjects: { sha256: [0, 1, 10, 23] },
        certification_keys: [
          {
            key_algorithm: 'rsa',
            key_class: 'asymmetric',
            key_size: 2048,
            server_identifier: 'ak',
            local_identifier: '000b6c1f',
            public: 'AAEACwAF',
            allowable_hash_algorithms: ['sha256'],
            allowable_signature_schemes: ['rsassa'],
          },
        ],
      },
    },
    {
      evidence_class: 'log',
      evidence_type: 'ima_log',
      capabilities: { entry_count: 5120, supports_partial_access: true, appendable: true, formats: ['text/plain'] },
    },
  ],
  system_info: { boot_time: '2026-03-14T06:02:11Z' },
};

test('capabilities of the existing agent fit, and what is missing in them is named', () => {
  assert.ok(parseBySchema(CapabilitiesAttributes, offered).ok);
  const [quote, ima] = offered.evidence_supported;
  assert.ok(parseBySchema(QuoteCapabilities, quote?.capabilities).ok);
  assert.ok(parseBySchema(LogCapabilities, ima?.capabilities).ok);
  assert.equal(refused(CapabilitiesAttributes, { ...offered, system_info: {} }), '/system_info');
  const odd = { evidence_class: 'other', evidence_type: 'x', capabilities: {} };
  assert.equal(
    refused(CapabilitiesAttributes, { ...offered, evidence_supported: [odd] }),
    '/evidence_supported/0/evidence_class',
  );
  assert.equal(refused(QuoteCapabilities, { ...quote?.capabilities, available_subjects: [] }), '/available_subjects');
  const banks = Object.fromEntries(Array.from({ length: 17 }, (_, bank) => [`bank${bank}`, []]));
  assert.equal(
    refused(QuoteCapabilities, { ...quote?.capabilities, available_subjects: banks }),
    '/available_subjects',
  );
});

test('a request for evidence of the existing verifier is read, and one for evidence of another type is not', () => {
  const negotiated = {
    stage: 'awaiting_evidence',
    evidence_requested: [
      {
        evidence_class: 'certification',
        evidence_type: 'tpm_quote',
        chosen_parameters: {
          challenge: 'Zr7Qx0mS2gqP1uYJd3hVwA==',
          signature_scheme: 'rsassa',
          hash_algorithm: 'sha256',
          selected_subjects: { sha256: [0, 10], sha1: null },
        },
      },
      {
        evidence_class: 'log',
        evidence_type: 'ima_log',
        chosen_parameters: { starting_offset: 5102, format: 'text/plain' },
      },
    ],
  };
  assert.ok(parseBySchema(NegotiatedAttributes, negotiated).ok);
  const other = { evidence_class: 'log', evidence_type: 'weather', chosen_parameters: {} };
  assert.match(refused(NegotiatedAttributes, { ...negotiated, evidence_requested: [other] }), /^\/evidence_requested/);
});

test('collected evidence fits, and so does the report that there is none', () => {
  const quote = {
    evidence_class: 'certification',
    evidence_type: 'tpm_quote',
    data: { message: 'AA==', signature: 'AA==', subject_data: 'AA==' },
  } as const;
  const ima = {
    evidence_class: 'log',
    evidence_type: 'ima_log',
    data: { entry_count: 0, entries: '' },
  } as const;
  assert.ok(parseBySchema(CollectedAttributes, collectedAttributes([quote, ima])).ok);
  assert.ok(parseBySchema(CollectedAttributes, NOTHING_COLLECTED).ok);
  assert.ok(parseBySchema(CollectedQuote, quote).ok);
  assert.ok(parseBySchema(CollectedImaLog, ima).ok);
  assert.equal(refused(CollectedQuote, { ...quote, data: { message: 'AA==' } }), '/data');
  const items = (count: number, type = 'x'.repeat(64)) => ({
    evidence_collected: Array.from({ length: count }, () => ({ evidence_class: 'log', evidence_type: type })),
  });
  assert.equal(refused(CollectedAttributes, items(16)), 'accepted');
  assert.equal(refused(CollectedAttributes, items(17)), '/evidence_collected');
  assert.equal(refused(CollectedAttributes, items(1, 'x'.repeat(65))), '/evidence_collected/0/evidence_type');
  for (const [member, most] of [
    ['message', 4096],
    ['signature', 4096],
    ['subject_data', 40_960],
  ] as const) {
    const sized = (length: number) => ({ ...quote, data: { ...quote.data, [member]: 'A'.repeat(length) } });
    assert.equal(refused(CollectedQuote, sized(most)), 'accepted');
    assert.equal(refused(CollectedQuote, sized(most + 1)), `/data/${member}`);
  }
});

test('seconds to the next attestation are read only if they are whole and not negative', () => {
  const answer = (seconds: unknown) =>
    documentOf(resource('attestation', '1', { evidence: [] }), { meta: { seconds_to_next_attestation: seconds } });
  assert.equal(secondsToNextAttestation(answer(60)), 60);
  assert.equal(secondsToNextAttestation(answer(0)), 0);
  for (const odd of [-1, 1.5, '60', null]) assert.equal(secondsToNextAttestation(answer(odd)), undefined);
  assert.equal(secondsToNextAttestation(undefined), undefined);
});
