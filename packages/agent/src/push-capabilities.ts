import {
  IMA_LOG_FORMAT,
  type OfferedAttributes,
  QUOTE_COMPONENT_VERSION,
  type QuoteCapabilities,
  UEFI_LOG_FORMAT,
} from '@keylime/api/push-capabilities';
import { encode } from '@keylime/core/codec';
import { decodeEventLog } from '@keylime/event-log/decode';
import { CURVE_BITS } from '@keylime/tpm/algorithms';
import { maskPcrs } from '@keylime/tpm/pcr-selection';
import { TpmtPublic } from '@keylime/tpm/public';
import type { PushAttester, TpmAbilities } from './attester.ts';
import type { BootLog } from './boot-log.ts';
import type { MeasurementList } from './measurement-list.ts';

/** What evidence is made from. */
export type EvidenceSources = {
  readonly attester: PushAttester;
  readonly measurementList: Pick<MeasurementList, 'readFrom' | 'countEntries'>;
  readonly bootLog: Pick<BootLog, 'read'>;
};

/** How things are called in capabilities, and when this boot began (Unix seconds). */
export type OfferSettings = {
  readonly serverIdentifier: string;
  readonly uefiLogVersion: string;
  readonly bootTime: number;
};

/**
 * What this machine can show (spec 05 section 5.2): a quote by the AK, the boot log, the measurement list, in this order,
 * which existing verifiers expect. A log that is not there is offered with no entries, so that the verifier can say so.
 * @throws what TPM and lists throw.
 */
export async function offeredAttributes(sources: EvidenceSources, settings: OfferSettings): Promise<OfferedAttributes> {
  const { attester, measurementList, bootLog } = sources;
  return {
    evidence_supported: [
      {
        evidence_class: 'certification',
        evidence_type: 'tpm_quote',
        capabilities: quoteCapabilities(await attester.abilities(), attester, settings),
      },
      {
        evidence_class: 'log',
        evidence_type: 'uefi_log',
        capabilities: {
          evidence_version: settings.uefiLogVersion,
          entry_count: countEvents(bootLog.read()),
          supports_partial_access: false,
          appendable: false,
          formats: [UEFI_LOG_FORMAT],
        },
      },
      {
        evidence_class: 'log',
        evidence_type: 'ima_log',
        capabilities: {
          entry_count: (await measurementList.countEntries()) ?? 0,
          supports_partial_access: true,
          appendable: true,
          formats: [IMA_LOG_FORMAT],
        },
      },
    ],
    system_info: { boot_time: new Date(settings.bootTime * 1000).toISOString().replace('.000', '') },
  };
}

function quoteCapabilities(
  { banks, signing, ak }: TpmAbilities,
  { hashAlg, signAlg }: Pick<PushAttester, 'hashAlg' | 'signAlg'>,
  settings: OfferSettings,
): QuoteCapabilities {
  const { type } = ak.public;
  return {
    component_version: QUOTE_COMPONENT_VERSION,
    hash_algorithms: [...banks.keys()],
    signature_schemes: [...signing],
    available_subjects: Object.fromEntries([...banks].map(([bank, mask]) => [bank, [...maskPcrs(mask)]])),
    certification_keys: [
      {
        key_class: 'asymmetric',
        key_algorithm: type,
        key_size: ak.public.type === 'rsa' ? ak.public.keyBits : CURVE_BITS[ak.public.curve],
        server_identifier: settings.serverIdentifier,
        local_identifier: ak.name.toString('hex'),
        public: encode(TpmtPublic, ak.public).toString('base64'),
        // The AK signs with these and nothing else, and quotes the bank of its hash.
        allowable_hash_algorithms: [hashAlg],
        allowable_signature_schemes: [signAlg],
      },
    ],
  };
}

/** Events of a boot log, without the header of a crypto-agile one. */
function countEvents(log: Buffer | undefined): number {
  if (log === undefined) return 0;
  const { events, specId } = decodeEventLog(log);
  return specId === undefined ? events.length : events.length - 1;
}
