import type { AgentId } from '@keylime/core/agent-id';
import { DecodeError } from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import { type Certificate, certifiesKey, parseCertificate, readCertificate } from '@keylime/identity/certificate';
import { namesTpmHardware } from '@keylime/identity/certificate-extensions';
import { type EndorsementProblem, type EndorsementWarning, verifyEndorsement } from '@keylime/identity/trust-store';
import { type CertifyFailure, verifyCertify } from '@keylime/tpm/certify';
import { akProblems, ekProblems, iakProblems, idevidProblems, type KeyProblem } from '@keylime/tpm/key-checks';
import { decodePublic, objectName, publicKey, TpmKeyError, type TpmtPublic } from '@keylime/tpm/public';
import type { CompleteRegistration, Registration, RegistrationRequest } from './registration.ts';
import type { FieldProblem } from './registration-request.ts';

export type KeyRole = 'ek' | 'ak' | 'iak' | 'idevid';
export type CertificateRole = 'ek' | 'iak' | 'idevid' | 'mtls';

/** Why a registration is not accepted. */
export type RegistrationProblem =
  | FieldProblem
  | { readonly kind: 'key_missing'; readonly key: 'ek' | 'ak' }
  | { readonly kind: 'key_malformed'; readonly key: KeyRole; readonly detail: string }
  | { readonly kind: 'key_refused'; readonly key: KeyRole; readonly problem: KeyProblem }
  | { readonly kind: 'certificate_malformed'; readonly certificate: CertificateRole; readonly detail: string }
  | { readonly kind: 'certificate_key_mismatch'; readonly key: 'ek' | 'iak' | 'idevid' }
  | { readonly kind: 'certificate_not_trusted'; readonly key: 'iak' | 'idevid'; readonly problem: EndorsementProblem }
  | { readonly kind: 'ak_certification_missing' }
  | { readonly kind: 'ak_certification_refused'; readonly failure: CertifyFailure }
  | { readonly kind: 'root_identity_missing'; readonly wanted: RootIdentity }
  | { readonly kind: 'device_identity_incomplete' };

/** What an operator should know of an accepted registration. */
export type RegistrationWarning =
  | { readonly kind: 'certificate_malformed'; readonly certificate: CertificateRole; readonly detail: string }
  | { readonly kind: 'endorsement'; readonly key: 'iak' | 'idevid'; readonly warning: EndorsementWarning }
  | { readonly kind: 'hardware_module_name_missing'; readonly key: 'iak' | 'idevid' };

/** What an agent must prove itself with (option `tpm_identity`, whose `default` is the first). */
export type RootIdentity = 'ek_cert_or_iak_idevid' | 'ek_cert' | 'iak_idevid';

export type RegistrationPolicy = {
  readonly tpmIdentity: RootIdentity;
  /** What to do with a certificate that is not strict DER. */
  readonly malformedCertAction: 'warn' | 'ignore' | 'reject';
};

export type RegistrationJudgement =
  | {
      readonly ok: true;
      readonly registration: CompleteRegistration;
      readonly warnings: readonly RegistrationWarning[];
    }
  | { readonly ok: false; readonly problems: readonly RegistrationProblem[] };

const KEY_CHECKS: Readonly<Record<KeyRole, (pub: TpmtPublic) => readonly KeyProblem[]>> = {
  ek: ekProblems,
  ak: akProblems,
  iak: iakProblems,
  idevid: idevidProblems,
};

/** A key as an object of a TPM, or why it is none that fits its role (R5, R6). */
function checkKey(key: KeyRole, bytes: Buffer): TpmtPublic | readonly RegistrationProblem[] {
  try {
    const pub = decodePublic(bytes);
    const problems = KEY_CHECKS[key](pub);
    return problems.length === 0 ? pub : problems.map((problem) => ({ kind: 'key_refused', key, problem }));
  } catch (error) {
    if (error instanceof DecodeError || error instanceof TpmKeyError) {
      return [{ kind: 'key_malformed', key, detail: error.message }];
    }
    throw error;
  }
}

/** Whether the AK is certified by the IAK for this agent (R8; spec 02 section 2.4). [compat] The bare id, before API 2.6. */
function certificationProblem(
  request: RegistrationRequest,
  agentId: AgentId,
  ak: TpmtPublic,
  iak: TpmtPublic,
): RegistrationProblem | undefined {
  const { iakAttest: attest, iakSignature: signature } = request;
  if (attest === null || signature === null) return { kind: 'ak_certification_missing' };
  const id = Buffer.from(agentId, 'utf8');
  const qualifyingData = [digest('sha256', id), id];
  const result = verifyCertify({ attest, signature, signer: iak, qualifyingData, certifiedName: objectName(ak) });
  return result.ok ? undefined : { kind: 'ak_certification_refused', failure: result.failure };
}

/** Whether the keys that the policy asks for are there (R9). Without an EK there is no challenge, so R12 asks for it too. */
function hasRootIdentity(wanted: RootIdentity, { ekPublic, iakPublic, idevidPublic }: Registration): boolean {
  const device = iakPublic !== null && idevidPublic !== null;
  switch (wanted) {
    case 'ek_cert_or_iak_idevid':
      return ekPublic !== null || device;
    case 'ek_cert':
      return ekPublic !== null;
    case 'iak_idevid':
      return device;
  }
}

/** Keys without certificates, or one key of the two, prove nothing (R10). */
function deviceIdentityIncomplete(registration: Registration): boolean {
  const { iakPublic, iakCertificate, idevidPublic, idevidCertificate } = registration;
  const parts = [iakPublic, iakCertificate, idevidPublic, idevidCertificate];
  return parts.some((part) => part !== null) && parts.some((part) => part === null);
}

const pemDer = (pem: string | null): Buffer | null => {
  const parsed = pem === null || pem === 'disabled' ? undefined : parseCertificate(pem);
  return parsed?.ok ? parsed.value.der : null;
};

/**
 * Judges what `request` says on top of the active record `base` (empty for a new agent), by spec 02 section 2.3, R3 to
 * R12; R1 is parsing, R2 is `changesIdentity`. Every problem is reported. An accepted registration is well formed and
 * consistent, its AK is restricted to the TPM; that it is *this* agent's TPM only the activation proves. The EK's
 * certificate is not verified: the tenant does that.
 */
export function judgeRegistration(given: {
  readonly agentId: AgentId;
  readonly request: RegistrationRequest;
  readonly base: Registration;
  readonly policy: RegistrationPolicy;
  /** Who may issue IAK and IDevID certificates. */
  readonly anchors: readonly Certificate[];
  readonly now: Date;
}): RegistrationJudgement {
  const { agentId, request, policy, anchors, now } = given;
  const registration: Registration = { ...given.base, ...request.fields };
  const problems: RegistrationProblem[] = [];
  const warnings: RegistrationWarning[] = [];
  const reject = (...found: readonly RegistrationProblem[]): void => void problems.push(...found);

  const keyOf = (key: KeyRole, bytes: Buffer | null): TpmtPublic | undefined => {
    const checked = bytes === null ? undefined : checkKey(key, bytes);
    if (checked === undefined || 'type' in checked) return checked;
    reject(...checked);
    return undefined;
  };
  const certificateOf = (role: CertificateRole, der: Buffer | null): Certificate | undefined => {
    const parsed = der === null ? undefined : readCertificate(der);
    if (parsed === undefined) return undefined;
    if (!parsed.ok) {
      reject({ kind: 'certificate_malformed', certificate: role, detail: parsed.problem.detail });
      return undefined;
    }
    const detail = parsed.value.malformed; // R11
    if (detail !== undefined && policy.malformedCertAction !== 'ignore') {
      const finding = { kind: 'certificate_malformed', certificate: role, detail } as const;
      if (policy.malformedCertAction === 'reject') reject(finding);
      else warnings.push(finding);
    }
    return parsed.value;
  };
  const compare = (key: 'ek' | 'iak' | 'idevid', pub: TpmtPublic | undefined, certificate: Certificate | undefined) => {
    if (pub && certificate && !certifiesKey(certificate, publicKey(pub)))
      reject({ kind: 'certificate_key_mismatch', key });
  };

  const ek = keyOf('ek', registration.ekPublic);
  const ak = keyOf('ak', registration.akPublic);
  const iak = keyOf('iak', registration.iakPublic);
  const idevid = keyOf('idevid', registration.idevidPublic);
  const iakCertificate = certificateOf('iak', registration.iakCertificate);
  const idevidCertificate = certificateOf('idevid', registration.idevidCertificate);
  certificateOf('mtls', pemDer(registration.mtlsCertificate));
  compare('ek', ek, certificateOf('ek', registration.ekCertificate)); // R3
  compare('iak', iak, iakCertificate); // R4
  compare('idevid', idevid, idevidCertificate);

  const intermediates = request.deviceIntermediates.flatMap((der) => {
    const parsed = readCertificate(der);
    return parsed.ok ? [parsed.value] : [];
  });
  const trust = (key: 'iak' | 'idevid', certificate: Certificate): void => {
    const endorsement = verifyEndorsement({ certificate, intermediates, anchors, now });
    if (!endorsement.ok) reject({ kind: 'certificate_not_trusted', key, problem: endorsement.problem });
    else warnings.push(...endorsement.warnings.map((warning) => ({ kind: 'endorsement', key, warning }) as const));
    if (!namesTpmHardware(certificate)) warnings.push({ kind: 'hardware_module_name_missing', key });
  };
  // R7 and R8: what the active record has was verified when it came.
  if (request.fields.iakCertificate && iakCertificate) trust('iak', iakCertificate);
  if (request.fields.idevidCertificate && idevidCertificate) trust('idevid', idevidCertificate);
  if (ak && iak && (request.fields.akPublic || request.fields.iakPublic)) {
    const problem = certificationProblem(request, agentId, ak, iak);
    if (problem !== undefined) reject(problem);
  }
  if (!hasRootIdentity(policy.tpmIdentity, registration)) {
    reject({ kind: 'root_identity_missing', wanted: policy.tpmIdentity });
  }
  if (deviceIdentityIncomplete(registration)) reject({ kind: 'device_identity_incomplete' });

  const { ekPublic, akPublic } = registration;
  if (ekPublic === null) reject({ kind: 'key_missing', key: 'ek' });
  if (akPublic === null) reject({ kind: 'key_missing', key: 'ak' }); // R12
  if (problems.length > 0 || ekPublic === null || akPublic === null) return { ok: false, problems };
  return { ok: true, registration: { ...registration, ekPublic, akPublic }, warnings };
}
