import type { Json } from '@keylime/core/json';
import type { DmProblem } from './device-mapper.ts';
import type { Explanation } from './explanation.ts';
import type { Failure } from './failure.ts';
import type { SignatureFinding } from './measurement.ts';

/**
 * A failure in the words of the API: what operators' severity rules match, what notifications carry. `recoverable` false
 * means that later checks were skipped (06 section 3.1 of the reference).
 */
export type FailureEvent = {
  readonly eventId: string;
  readonly recoverable: boolean;
  readonly context: { readonly [key: string]: Json };
};

/** [compat] The misspelling is what operators' rules match. */
const QUOTE = 'qoute_validation';

/** Room for a path of 4096 bytes, the longest that the kernel knows. */
const LONGEST_TEXT = 4200;

/** Events are kept, logged and sent on: what an agent put into them is cut, so that it cannot fill what keeps them. */
export const shorten = (text: string, longest = LONGEST_TEXT): string =>
  text.length > longest ? `${text.slice(0, longest)}…` : text;

const contextOf = (message: string, more: FailureEvent['context']): FailureEvent['context'] =>
  Object.fromEntries(
    Object.entries({ message, ...more }).map(([key, value]) => [
      key,
      typeof value === 'string' ? shorten(value) : value,
    ]),
  );

const fatal = (eventId: string, message: string, more: FailureEvent['context'] = {}): FailureEvent => ({
  eventId,
  recoverable: false,
  context: contextOf(message, more),
});

const mild = (eventId: string, message: string, more: FailureEvent['context'] = {}): FailureEvent => ({
  eventId,
  recoverable: true,
  context: contextOf(message, more),
});

const quoteInvalid = (error: string): FailureEvent =>
  fatal(`${QUOTE}.quote_validation`, 'Quote validation failed', { error });

const ALGORITHM_EVENTS = {
  hash: 'invalid_hash_alg',
  encryption: 'invalid_enc_alg',
  signing: 'invalid_sign_alg',
} as const;

/** The events, of which the last one says that there are `more`. */
export function withMoreFailures(events: readonly FailureEvent[], more: number): readonly FailureEvent[] {
  const last = events.at(-1);
  if (last === undefined || more === 0) return events;
  return [...events.slice(0, -1), { ...last, context: { ...last.context, more_failures: more } }];
}

/** The event of a failure: ids as in 06 section 3.2 of the reference; messages that suites of the field match are kept. */
export function failureEvent(failure: Failure): FailureEvent {
  switch (failure.kind) {
    case 'evidence_malformed':
      return fatal(`${QUOTE}.invalid_data`, `Answer of the agent is malformed: ${failure.field}: ${failure.problem}`);
    case 'transport_key_missing':
      return fatal(`${QUOTE}.no_pubkey`, 'No public key was given and none is stored for this agent');
    case 'algorithm_not_accepted':
      return fatal(
        `${QUOTE}.${ALGORITHM_EVENTS[failure.use]}`,
        `The ${failure.use} algorithm '${failure.found}' is not accepted`,
        { data: failure.found, accepted: failure.accepted },
      );
    case 'algorithm_misdeclared':
      return fatal(
        `${QUOTE}.${ALGORITHM_EVENTS[failure.use]}`,
        `The ${failure.use} algorithm is declared as '${failure.declared}' but is '${failure.actual}'`,
        { data: failure.declared, actual: failure.actual },
      );
    case 'ima_entry_unexpected':
      return fatal(
        `${QUOTE}.invalid_ima_entry_nb`,
        failure.found > failure.requested
          ? `The measurement list starts at entry ${failure.found}, entry ${failure.requested} was asked for: records were removed from the kernel's list that this verifier has not judged, so reboot the machine`
          : `The measurement list starts at entry ${failure.found}, entry ${failure.requested} was asked for`,
        { got: failure.found, expected: failure.requested },
      );

    case 'quote_malformed':
      return quoteInvalid(`The quote is malformed (${failure.part}): ${failure.problem}`);
    case 'quote_ak_unusable':
      return quoteInvalid(`The attestation key cannot be used: ${failure.problem}`);
    case 'quote_signature_scheme':
      return quoteInvalid(
        `The quote is signed with ${failure.actual}, the attestation key signs with ${failure.expected}`,
      );
    case 'quote_hash_mismatch':
      return quoteInvalid(`The quote is hashed with ${failure.actual}, declared is ${failure.declared}`);
    case 'quote_signature_invalid':
      return quoteInvalid('The signature of the quote is not by the attestation key');
    case 'quote_nonce_mismatch':
      return quoteInvalid('The quote is not about the nonce that was sent');
    case 'quote_pcr_bank':
      return quoteInvalid(`PCRs of bank ${failure.expected} were asked for, quoted were ${failure.actual.join(', ')}`);
    case 'pcr_bank_inactive':
      return quoteInvalid(`The TPM has no active PCR bank ${failure.bank}: choose another tpm_hash_alg for the agent`);
    case 'quote_pcr_selection':
      return quoteInvalid(`PCRs ${maskText(failure.expected)} were asked for, quoted were ${maskText(failure.actual)}`);
    case 'quote_pcr_blob':
      return quoteInvalid(`The PCR values do not fit the quote: ${failure.problem}`);
    case 'quote_pcr_digest_mismatch':
      return quoteInvalid('The PCR values are not those that the quote signs');

    case 'clock_reset_count_decreased':
      return quoteInvalid(`The TPM's reset count went back from ${failure.previous} to ${failure.current}`);
    case 'clock_restart_count_decreased':
      return quoteInvalid(`The TPM's restart count went back from ${failure.previous} to ${failure.current}`);
    case 'clock_not_advanced':
      return quoteInvalid(`The TPM's clock did not advance: ${failure.current} ms after ${failure.previous} ms`);
    case 'clock_unsafe':
      return mild(`${QUOTE}.quote_validation`, "The TPM's clock is not safe: it lost power and may have lost time");

    case 'binding_pcr_missing':
      return mild('pcr_validation.missing_pcr_16', 'PCR 16, which binds the key of the agent, is not in the quote');
    case 'binding_pcr_mismatch':
      return mild('pcr_validation.invalid_pcr_16', 'PCR 16 does not bind the key that the agent sent', {
        got: failure.found,
        expected: failure.expected,
      });
    case 'pcr_not_allowed':
      return mild(`pcr_validation.invalid_pcr_${failure.pcr}`, `PCR ${failure.pcr} has a value that is not allowed`, {
        context: 'PCR value is not in the TPM policy',
        got: failure.found,
        expected: failure.allowed,
      });
    case 'pcrs_missing':
      return mild(
        'pcr_validation.missing_pcrs',
        `PCRs of the TPM policy are not in the quote: ${failure.pcrs.join(', ')}`,
        {
          context: 'PCRs are missing in quote',
          data: failure.pcrs,
        },
      );

    case 'measured_boot_log_missing':
      return mild(
        `pcr_validation.unused_pcr_${failure.pcrs[0] ?? 0}`,
        'PCRs of the boot are quoted but the agent sent no boot event log',
        { data: failure.pcrs },
      );
    case 'measured_boot_log_not_base64':
      return mild('measured_boot.parser.log.base64decode', 'The boot event log is not base64');
    case 'measured_boot_log_malformed': {
      const { kind, index, offset, field, problem } = failure.problem;
      const where = `event ${index} at byte ${offset}${field === '' ? '' : `, ${field}`}`;
      return mild(
        'measured_boot.parser.tpm2_eventlog.error',
        `The boot event log cannot be read (${kind}): ${where}: ${problem}`,
        { context: 'The boot event log cannot be read', code: 1, data: problem },
      );
    }
    case 'measured_boot_bank_missing':
      return mild(
        'measured_boot.parser.invalid_pcrs_hashes',
        `The boot event log has no digests of bank ${failure.bank}, which is quoted`,
        { got: failure.banks, expected: failure.bank },
      );
    case 'measured_boot_pcr_not_quoted':
      return mild('measured_boot.missing_pcrs', `PCR ${failure.pcr} of the boot is not in the quote`, {
        context: 'PCRs are missing in quote',
        data: [failure.pcr],
      });
    case 'measured_boot_pcr_mismatch':
      return mild(
        `measured_boot.invalid_pcr_${failure.pcr}`,
        `The boot event log does not lead to the quoted value of PCR ${failure.pcr}`,
        {
          context: 'SHA256 boot event log PCR value does not match',
          pcr: failure.pcr,
          got: failure.found,
          expected: failure.expected,
        },
      );
    case 'measured_boot_reference_invalid':
      return mild(
        'pcr_validation.invalid_mb_policy',
        `Measured-boot policy ${failure.rules} cannot use the reference state: ${failure.path} ${failure.problem}`,
        { policy: failure.rules, data: failure.path },
      );
    case 'measured_boot_policy_violated':
      return mild(
        `measured_boot.policy_${failure.rules}`,
        `The boot is not as measured-boot policy ${failure.rules} wants it: ${failure.reason.replaceAll('_', ' ')}`,
        {
          ...judgedBy(failure, failure.reason),
          ...(failure.event !== undefined && { index: failure.event }),
          ...(failure.pcr !== undefined && { pcr: failure.pcr }),
          ...(failure.type !== undefined && { event_type: failure.type }),
          ...(failure.found !== undefined && { got: failure.found }),
          ...(failure.expected !== undefined && { expected: failure.expected }),
        },
      );
    case 'measured_boot_policy_failed':
      return mild(
        `measured_boot.policy_${failure.rules}`,
        `Measured-boot policy ${failure.rules} failed: ${failure.problem}`,
        judgedBy(failure, `policy evaluation failed: ${failure.problem}`),
      );
    case 'measured_boot_judged_too_slowly':
      return mild(
        'measured_boot.evaluation_timeout',
        `The boot could not be judged by measured-boot policy ${failure.rules}: ${failure.problem}`,
        judgedBy(failure, failure.problem),
      );

    case 'ima_list_missing':
      return mild('pcr_validation.unused_pcr_10', 'PCR 10 is quoted but the agent sent no measurement list');
    case 'ima_entry_malformed':
      return mild('ima.parser.entry', `Entry ${failure.index} cannot be read (${failure.problem}): ${failure.line}`, {
        index: failure.index,
      });
    case 'ima_pcr_not_ten':
      return mild('ima.validation.ima_pcr', `Entry ${failure.index} is not for PCR 10`, {
        ...place(failure),
        expected: '10',
        got: String(failure.actual),
      });
    case 'ima_violation':
      return mild(
        'ima.validation.tomtou',
        `Entry ${failure.index} is a violation (ToMToU or open writers)`,
        place(failure),
      );
    case 'ima_template_hash_mismatch':
      return mild('ima.validation.ima_hash', `Template hash of entry ${failure.index} is not that of its fields`, {
        ...place(failure),
        expected: failure.expected,
        got: failure.actual,
      });
    case 'ima_path_unknown':
      return mild('ima.validation.ima-ng.not_in_allowlist', `File not found in allowlist: ${failure.path}`, {
        ...place(failure),
        got: failure.actual,
        ...signed(failure),
      });
    case 'ima_digest_not_allowed':
      return mild(
        'ima.validation.ima-ng.runtime_policy_hash',
        `Hashes for file ${failure.path} don't match: ${failure.actual} is not in the policy`,
        {
          ...place(failure),
          got: failure.actual,
          expected: failure.expected,
          ...(failure.expectedMore !== undefined && { expected_more: failure.expectedMore }),
          ...signed(failure),
        },
      );
    case 'ima_buffer_digest_mismatch':
      return mild('ima.validation.ima_hash', `Digest of entry ${failure.index} is not that of its buffer`, {
        ...place(failure),
        expected: failure.expected ?? null,
        got: failure.actual,
      });
    case 'ima_key_unsupported':
      return mild('ima.invalid_key', `Key of entry ${failure.index} on ${failure.path} is of type ${failure.keyType}`, {
        ...place(failure),
        got: failure.actual,
      });
    case 'ima_signature_malformed':
      return mild(
        'ima.validator.ima-sig.invalid_signature',
        `Signature of ${failure.path} is malformed (${failure.sizeBytes} bytes)`,
        { ...place(failure), signature: 'malformed', ...keyOf(failure) },
      );
    case 'ima_device_mapper':
      return mild(deviceMapperEvent(failure), `Device mapper: ${failure.detail}`, optionalPlace(failure));
    case 'ima_pcr_mismatch':
      return mild(
        'ima.pcr_mismatch',
        `IMA measurement list expected PCR 10 to be ${failure.quoted}, it leads to ${failure.replayed}: entries were left out, added or changed, or its kernel extends in another way (ima_extend_mode)`,
        {
          expected: failure.quoted,
          got: failure.replayed,
        },
      );
    case 'ima_boot_aggregate_missing':
      return mild('ima.validation.ima-ng.not_in_allowlist', 'The measurement list does not start with boot_aggregate', {
        index: 0,
        expected: 'boot_aggregate',
      });
    case 'ima_quote_progress':
      return mild(
        'ima.quote_progress',
        `The quotes do not keep up with the measurement list: ${failure.matched} of ${failure.length} entries`,
      );
  }
}

/** What judged a boot, by its name and the checksum of the reference state, and why it refused. */
const judgedBy = (
  { rules, checksum }: { readonly rules: string; readonly checksum: string },
  reason: string,
): FailureEvent['context'] => ({
  context: 'Boot attestation failed',
  policy: rules,
  refstate: checksum,
  reason: shorten(reason),
});

type Place = {
  readonly index: number;
  readonly path: string;
  readonly template: string;
  readonly explanation?: Explanation;
};

/** Where in the list, and what else is known of path and digest. */
const place = ({ index, path, template, explanation }: Place): FailureEvent['context'] => ({
  index,
  path,
  template,
  ...(explanation?.firstIndex !== undefined && { first_index: explanation.firstIndex }),
  ...(explanation?.judgedFrom !== undefined && { judged_from: explanation.judgedFrom }),
  ...(explanation?.listedFor && { listed_for: explanation.listedFor }),
  ...(explanation?.listedForMore !== undefined && { listed_for_more: explanation.listedForMore }),
  ...(explanation?.foundPackage !== undefined && { got_package: explanation.foundPackage }),
  ...(explanation?.expectedPackages && { expected_packages: explanation.expectedPackages }),
});

const optionalPlace = ({ index, path, template }: Partial<Place>): FailureEvent['context'] => ({
  ...(index !== undefined && { index }),
  ...(path !== undefined && { path }),
  ...(template !== undefined && { template }),
});

/** The member of the policy that does not list it, and why a signature did not help. */
const signed = ({
  map,
  signature,
}: {
  readonly map: string;
  readonly signature?: SignatureFinding;
}): FailureEvent['context'] => ({
  policy_member: map,
  ...(signature && { signature: signature.problem, ...keyOf(signature) }),
});

/** Which key a signature says that it is by. */
const keyOf = ({ keyId, keySerial }: Pick<SignatureFinding, 'keyId' | 'keySerial'>): FailureEvent['context'] => ({
  ...(keyId !== undefined && { key_id: keyId }),
  ...(keySerial !== undefined && { key_serial: keySerial }),
});

/** Failures about one event's content carry its name; those about its form, and about all devices, do not. */
function deviceMapperEvent({ problem, path }: { readonly problem: DmProblem; readonly path?: string }): string {
  const general: readonly DmProblem[] = ['invalid_data', 'parsing_failed'];
  return path === undefined || general.includes(problem)
    ? `ima.validation.dm.${problem}`
    : `ima.validation.dm.${path}.${problem}`;
}

const maskText = (mask: number): string =>
  Array.from({ length: 32 }, (_, pcr) => pcr)
    .filter((pcr) => (mask >>> pcr) & 1)
    .join(',');
