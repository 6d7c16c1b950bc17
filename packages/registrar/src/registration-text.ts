import { endorsementProblemText, endorsementWarningText } from '@keylime/identity/trust-store';
import { describeKeyProblem } from '@keylime/tpm/key-checks';
import type {
  CertificateRole,
  KeyRole,
  RegistrationProblem,
  RegistrationWarning,
  RootIdentity,
} from './registration-checks.ts';

const FIELDS: Readonly<Record<KeyRole, string>> = { ek: 'ek_tpm', ak: 'aik_tpm', iak: 'iak_tpm', idevid: 'idevid_tpm' };
const CERTIFICATE_FIELDS: Readonly<Record<CertificateRole, string>> = {
  ek: 'ekcert',
  iak: 'iak_cert',
  idevid: 'idevid_cert',
  mtls: 'mtls_cert',
};

const ROOT_IDENTITIES: Readonly<Record<RootIdentity, string>> = {
  ek_cert_or_iak_idevid: 'an EK, or an IAK and an IDevID',
  ek_cert: 'an EK',
  iak_idevid: 'an IAK and an IDevID',
};

/** `problem` in words, for the agent's operator; it begins with the field's name. */
export function registrationProblemText(problem: RegistrationProblem): string {
  switch (problem.kind) {
    case 'field_malformed':
      return `${problem.field}: ${problem.detail}`;
    case 'key_missing':
      return `${FIELDS[problem.key]}: required, there is no challenge without it`;
    case 'key_malformed':
      return `${FIELDS[problem.key]}: not a TPM2B_PUBLIC: ${problem.detail}`;
    case 'key_refused':
      return `${FIELDS[problem.key]}: ${describeKeyProblem(problem.problem)}`;
    case 'certificate_malformed':
      return `${CERTIFICATE_FIELDS[problem.certificate]}: not strict DER: ${problem.detail}`;
    case 'certificate_key_mismatch':
      return `${CERTIFICATE_FIELDS[problem.key]}: is for another key than ${FIELDS[problem.key]}`;
    case 'certificate_not_trusted':
      return `${CERTIFICATE_FIELDS[problem.key]}: ${endorsementProblemText(problem.problem)}`;
    case 'ak_certification_missing':
      return 'iak_attest, iak_sign: required with iak_tpm';
    case 'ak_certification_refused':
      return `iak_attest, iak_sign: do not certify the AK (${problem.failure.kind})`;
    case 'root_identity_missing':
      return `the registrar wants ${ROOT_IDENTITIES[problem.wanted]}`;
    case 'device_identity_incomplete':
      return 'iak_tpm, iak_cert, idevid_tpm, idevid_cert: come all four or not at all';
  }
}

/** `warning` in words, for the registrar's operator. */
export function registrationWarningText(warning: RegistrationWarning): string {
  switch (warning.kind) {
    case 'certificate_malformed':
      return `${CERTIFICATE_FIELDS[warning.certificate]} is not strict DER: ${warning.detail}`;
    case 'endorsement':
      return `${CERTIFICATE_FIELDS[warning.key]}: ${endorsementWarningText(warning.warning)}`;
    case 'hardware_module_name_missing':
      return `${CERTIFICATE_FIELDS[warning.key]} does not name a TPM in a HardwareModuleName`;
  }
}
