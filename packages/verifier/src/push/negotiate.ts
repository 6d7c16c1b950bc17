import {
  type CapabilitiesAttributes,
  type CertificationKey,
  IMA_LOG_FORMAT,
  LogCapabilities,
  QUOTE_COMPONENT_VERSION,
  QuoteCapabilities,
  UEFI_LOG_FORMAT,
} from '@keylime/api/push-capabilities';
import type { PushProblem } from '@keylime/api/push-document';
import type { RequestedEvidence } from '@keylime/api/push-parameters';
import { parseKnownMembers, parsePushTime, pushTime } from '@keylime/api/push-value';
import { type AcceptedAlgorithms, unacceptedAlgorithms } from '@keylime/appraisal/algorithms';
import type { Progress } from '@keylime/appraisal/progress';
import { type HashAlgorithm, isHashAlgorithm } from '@keylime/core/digest';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { IMA_PCR } from '@keylime/ima/replay';
import { maskPcrs } from '@keylime/tpm/pcr-selection';
import { encryptionAlgorithm, type TpmtPublic } from '@keylime/tpm/public';
import type { Offered } from './attestation.ts';

/** What a verifier chose of what an agent offered; all that is needed to judge the answer. */
export type Chosen = {
  /** Base64 of what must be in `extraData`. */
  readonly challenge: string;
  readonly scheme: string;
  /** Hash of the signature, and the PCR bank. */
  readonly hash: HashAlgorithm;
  /** PCRs to be quoted, bit i for PCR i. */
  readonly mask: number;
  /** Banks that were offered. */
  readonly banks: readonly string[];
  /** The key as it was offered; it serves the agent to find it, nothing else. */
  readonly key: CertificationKey;
  readonly uefiLog: boolean;
  /** Absent where no list is judged. `offeredEntries`: as many the list had when it was offered. */
  readonly imaLog?: { readonly startingEntry: number; readonly offeredEntries: number };
  /** Unix seconds, the agent's word: that of the last attestation if it is of the same boot. */
  readonly bootTime: number;
};

/** What is wanted of an agent, whatever it offers. */
export type Wanted = {
  readonly ak: TpmtPublic;
  readonly accepted: AcceptedAlgorithms;
  /** As `quotedMask` says. */
  readonly mask: number;
  readonly uefiLog: boolean;
  readonly progress: Progress;
  /** Of the runtime policy. */
  readonly policyChecksum: string;
};

type Refusal = Parsed<never, PushProblem> & { readonly ok: false };

const refuse = (path: string, detail: string): Refusal =>
  bad({
    status: 422,
    code: 'invalid_resource_data',
    // [compat] The existing verifier calls `evidence_supported` so.
    detail: `Attribute '${path.split('/')[0]}' ${detail}`,
    pointer: `/data/attributes/${path}`,
  });

/** The kernel's word on when it booted moves with the clock on the wall: within this many seconds it is the same boot. */
const SAME_BOOT_SECONDS = 5;

/** What the TPM of such a key can sign with, as far as it can be verified. */
const SCHEMES = { rsa: ['rsassa', 'rsapss'], ecc: ['ecdsa'] } as const;

/**
 * Chooses what evidence an agent is to send (05 sections 5.2 to 5.4 of the reference), or says why there is no choice. The
 * AK is the enrolled one: it signs with its own scheme and hash, whatever else is offered. Exactly one bank is chosen, and
 * at least PCR 0, so that liveness and the AK are always proved.
 */
export function negotiate(
  { evidence_supported: supported, system_info: system }: CapabilitiesAttributes,
  wanted: Wanted,
  challenge: Uint8Array,
): Parsed<{ readonly chosen: Chosen; readonly offered: Offered }, PushProblem> {
  const bootMs = parsePushTime(system.boot_time);
  if (bootMs === undefined) return refuse('system_info/boot_time', 'must be a time');
  const mask = wanted.mask === 0 ? 1 : wanted.mask;
  const evidence: Offered['evidence'][number][] = [];

  const at = supported.findIndex(({ evidence_type: type }) => type === 'tpm_quote');
  if (at === -1) return refuse('evidence', "must contain a certification item of type 'tpm_quote' per agent policy");
  const quote = parseKnownMembers(QuoteCapabilities, supported[at]?.capabilities);
  if (!quote.ok) return refuse(`evidence/${at}/capabilities${quote.problem.pointer}`, quote.problem.problem);
  const choice = chooseQuote(quote.value, { ...wanted, mask });
  if (typeof choice === 'string') {
    const text = "must have 'tpm_quote' with capabilities which are valid and satisfy agent policy";
    return refuse('evidence', `${text} (check ${choice})`);
  }
  // Of the keys the chosen one is kept: the others may be many, and nobody asks for them.
  const capabilities = { ...quote.value, certification_keys: [choice.key] };
  evidence.push({ evidence_class: 'certification', evidence_type: 'tpm_quote', capabilities });

  for (const type of [
    ...(wanted.uefiLog ? ['uefi_log' as const] : []),
    ...(asksForList(mask) ? ['ima_log' as const] : []),
  ]) {
    const index = supported.findIndex((one) => one.evidence_type === type && one.evidence_class === 'log');
    if (index === -1) return refuse('evidence', `must contain a log item of type '${type}' per agent policy`);
    const log = parseKnownMembers(LogCapabilities, supported[index]?.capabilities);
    const where = `evidence/${index}/capabilities`;
    if (!log.ok) return refuse(`${where}${log.problem.pointer}`, log.problem.problem);
    const format = type === 'ima_log' ? IMA_LOG_FORMAT : UEFI_LOG_FORMAT;
    if (!log.value.formats.includes(format)) return refuse(`${where}/formats`, `must include ${format}`);
    if (type === 'ima_log' && log.value.supports_partial_access !== true) {
      return refuse(`${where}/supports_partial_access`, 'must be true: the list is asked for from the last entry on');
    }
    if (type === 'ima_log' && typeof log.value.entry_count !== 'number') {
      return refuse(`${where}/entry_count`, 'must be the number of entries');
    }
    evidence.push({ evidence_class: 'log', evidence_type: type, capabilities: log.value });
  }

  const { progress } = wanted;
  const claimed = Math.trunc(bootMs / 1000);
  const isSameBoot = progress.bootTime !== undefined && Math.abs(claimed - progress.bootTime) <= SAME_BOOT_SECONDS;
  const entries = evidence.find((one) => one.evidence_type === 'ima_log')?.capabilities as LogCapabilities | undefined;
  const offeredEntries = entries?.entry_count ?? 0;
  const goesOn =
    isSameBoot &&
    progress.bank === choice.hash &&
    progress.policyChecksum === wanted.policyChecksum &&
    progress.nextEntry <= offeredEntries;
  const chosen: Chosen = {
    challenge: Buffer.from(challenge).toString('base64'),
    ...choice,
    mask,
    banks: Object.keys(quote.value.available_subjects),
    uefiLog: wanted.uefiLog,
    ...(entries && { imaLog: { startingEntry: goesOn ? progress.nextEntry : 0, offeredEntries } }),
    bootTime: isSameBoot && progress.bootTime !== undefined ? progress.bootTime : claimed,
  };
  return good({ chosen, offered: { evidence, bootTime: pushTime(bootMs) } });
}

const asksForList = (mask: number): boolean => ((mask >>> IMA_PCR) & 1) === 1;

/** Scheme, bank and key, or the word for what does not fit. */
function chooseQuote(
  offered: QuoteCapabilities,
  { ak, accepted, mask }: Pick<Wanted, 'ak' | 'accepted' | 'mask'>,
): { readonly scheme: string; readonly hash: HashAlgorithm; readonly key: CertificationKey } | string {
  if (offered.component_version !== QUOTE_COMPONENT_VERSION) return `component_version is ${QUOTE_COMPONENT_VERSION}`;
  const names = { hash: '', signing: '', encryption: encryptionAlgorithm(ak) };
  const refused = unacceptedAlgorithms(names, accepted).find(({ use }) => use === 'encryption');
  if (refused !== undefined)
    return `the AK is of type ${names.encryption}, accept_tpm_encryption_algs are ${accepted.encryption.join(', ')}`;
  const own: readonly string[] = ak.scheme.type === 'null' ? SCHEMES[ak.type] : [ak.scheme.type];
  const schemes = accepted.signing.filter(
    (scheme) =>
      own.includes(scheme) &&
      (SCHEMES[ak.type] as readonly string[]).includes(scheme) &&
      offered.signature_schemes.includes(scheme),
  );
  if (schemes.length === 0)
    return `the AK signs with ${own.join(' or ')}: signature_schemes and accept_tpm_signing_algs`;
  const ownHash = 'hash' in ak.scheme ? ak.scheme.hash : undefined;
  const hashes = accepted.hash.filter(
    (hash) =>
      (ownHash === undefined || hash === ownHash) && hash !== 'sm3_256' && offered.hash_algorithms.includes(hash),
  );
  if (hashes.length === 0)
    return `the AK hashes with ${ownHash ?? 'any algorithm'}: hash_algorithms and accept_tpm_hash_algs`;
  const banks = hashes.filter((hash): hash is HashAlgorithm => {
    const pcrs = Object.hasOwn(offered.available_subjects, hash) ? (offered.available_subjects[hash] ?? []) : [];
    return isHashAlgorithm(hash) && maskPcrs(mask).every((pcr) => pcrs.includes(pcr));
  });
  if (banks.length === 0) return 'the correct numbered PCRs are given for an allowable PCR bank';
  const keys = offered.certification_keys.toSorted(
    (a, b) => Number(b.server_identifier === 'ak') - Number(a.server_identifier === 'ak'),
  );
  for (const key of keys) {
    const allows = (names: readonly string[] | null | undefined, name: string) => names?.includes(name) ?? true;
    const scheme = schemes.find((one) => allows(key.allowable_signature_schemes, one));
    const hash = banks.find((one) => allows(key.allowable_hash_algorithms, one));
    const isKnown = [key.server_identifier, key.local_identifier, key.public].some(Boolean);
    if (key.key_class !== 'asymmetric' || key.key_algorithm !== ak.type || !isKnown) continue;
    if (scheme !== undefined && hash !== undefined) return { scheme, hash, key };
  }
  return `certification_keys have an asymmetric key of type ${ak.type} for ${schemes.join(', ')} and ${banks.join(', ')}`;
}

const NAMES_OF_KEY = ['key_algorithm', 'server_identifier', 'local_identifier', 'public'] as const;

/** What the agent is asked for, in the order in which it answers. */
export function requestedEvidence({
  challenge,
  scheme,
  hash,
  mask,
  banks,
  key,
  uefiLog,
  imaLog,
}: Chosen): readonly RequestedEvidence[] {
  // [compat] Existing agents read a key with all its names, or none.
  const isWhole = NAMES_OF_KEY.every((name) => key[name] !== undefined);
  return [
    {
      evidence_class: 'certification',
      evidence_type: 'tpm_quote',
      chosen_parameters: {
        challenge,
        signature_scheme: scheme,
        hash_algorithm: hash,
        selected_subjects: Object.fromEntries(banks.map((bank) => [bank, bank === hash ? [...maskPcrs(mask)] : null])),
        ...(isWhole && { certification_key: key }),
      },
    },
    ...(uefiLog
      ? [{ evidence_class: 'log', evidence_type: 'uefi_log', chosen_parameters: { format: UEFI_LOG_FORMAT } } as const]
      : []),
    ...(imaLog
      ? [
          {
            evidence_class: 'log',
            evidence_type: 'ima_log',
            chosen_parameters: { starting_offset: imaLog.startingEntry, format: IMA_LOG_FORMAT },
          } as const,
        ]
      : []),
  ];
}
