import { resource } from '@keylime/api/push-document';
import { pushTime } from '@keylime/api/push-value';
import type { Attestation } from './attestation.ts';
import { requestedEvidence } from './negotiate.ts';

export const attestationPath = (
  version: string,
  { agentId, number }: Pick<Attestation, 'agentId' | 'number'>,
): string => `/v${version}/agents/${agentId}/attestations/${number}`;

const times = ({ capabilitiesAtMs, challengeExpiresAtMs, evidenceAtMs, completedAtMs }: Attestation) => ({
  capabilities_received_at: pushTime(capabilitiesAtMs),
  challenges_expire_at: pushTime(challengeExpiresAtMs),
  ...(evidenceAtMs !== undefined && { evidence_received_at: pushTime(evidenceAtMs) }),
  ...(completedAtMs !== undefined && { verification_completed_at: pushTime(completedAtMs) }),
});

/** What an agent is answered that offered evidence (05 section 5.5 of the reference). */
export const negotiatedResource = (attestation: Attestation, version: string) =>
  resource(
    'attestation',
    String(attestation.number),
    {
      stage: attestation.stage,
      evidence_requested: requestedEvidence(attestation.chosen),
      system_info: { boot_time: attestation.offered.bootTime },
      ...times(attestation),
    },
    attestationPath(version, attestation),
  );

/**
 * What an agent is answered that sent evidence (section 6.4). Without the evidence itself, which may be megabytes: existing
 * agents look for the interval only.
 */
export const receivedResource = (attestation: Attestation, version: string) =>
  resource(
    'attestation',
    String(attestation.number),
    {
      stage: attestation.stage,
      evidence: [],
      system_info: { boot_time: attestation.offered.bootTime },
      ...times(attestation),
    },
    attestationPath(version, attestation),
  );

/** What an operator sees (section 9): logs by their length, failures in full. */
export function attestationResource(attestation: Attestation, version: string) {
  const { offered, chosen, collected, failureReason, failures } = attestation;
  const parameters = requestedEvidence(chosen);
  const evidence = offered.evidence.map((one, index) => ({
    ...one,
    chosen_parameters: parameters[index]?.chosen_parameters ?? {},
    ...(collected && { data: dataOf(one.evidence_type, collected) }),
  }));
  return resource(
    'attestation',
    String(attestation.number),
    {
      stage: attestation.stage,
      evaluation: attestation.evaluation,
      ...(failureReason !== undefined && { failure_reason: failureReason }),
      evidence,
      system_info: { boot_time: offered.bootTime },
      ...times(attestation),
      ...(failures.length > 0 && {
        results: failures.map(({ eventId, context }) => ({ event_id: eventId, context })),
      }),
    },
    attestationPath(version, attestation),
  );
}

type EvidenceType = Attestation['offered']['evidence'][number]['evidence_type'];

function dataOf(type: EvidenceType, collected: NonNullable<Attestation['collected']>) {
  switch (type) {
    case 'tpm_quote':
      return { message: collected.message, signature: collected.signature, subject_data: collected.subjectData };
    case 'uefi_log':
      return { size_bytes: collected.uefiLogBytes ?? 0 };
    case 'ima_log':
      return { entry_count: collected.imaLogEntries ?? 0 };
  }
}
