import type { KeyObject } from 'node:crypto';
import { pythonJson } from '@keylime/api/python-json';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { DecodeError } from '@keylime/core/codec';
import { parseCertificate } from '@keylime/identity/certificate';
import type { Log } from '@keylime/service/log';
import { describeKeyProblem, ekProblems } from '@keylime/tpm/key-checks';
import { decodePublic, publicKey, TpmKeyError } from '@keylime/tpm/public';
import { ekCertificateProblem, ekMismatch, readCertStore } from './ek-certificate.ts';
import { runEkScript } from './ek-script.ts';
import type { RegistrarRecord } from './registrar-record.ts';
import { TenantError } from './tenant-error.ts';

export type EkSettings = {
  readonly requireEkCert: boolean;
  /** Folder of the certificates of TPM makers; absolute. */
  readonly certStore: string;
  /** Empty: none. */
  readonly script: string;
  readonly workDir: string;
  /** `KEYLIME_TEST`: the word `emulator` stands for a certificate. */
  readonly testMode: boolean;
  /** What the script inherits. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly now: Date;
};

/**
 * Decides whether the EK of a registered agent belongs to a TPM that the operator trusts (spec 02 section 4.1): the chain
 * of trust begins here, so this is the first check of `add` and `update`, in pull and push mode alike.
 * @throws TenantError `ek_rejected`
 */
export async function checkEk(agent: AgentId, record: RegistrarRecord, settings: EkSettings, log: Log): Promise<void> {
  const ek = ekKey(agent, record.ek_tpm);
  const refuse = (why: string): never => {
    throw new TenantError('ek_rejected', `EK of agent ${agent} rejected: ${why}. Nothing was sent to the verifier`);
  };

  if (settings.requireEkCert) {
    if (record.ekcert === 'emulator' && settings.testMode) {
      log.warn(`Not checking the EK certificate of the TPM emulator of agent ${agent}: KEYLIME_TEST is on`);
    } else {
      const store = await readCertStore(settings.certStore, log);
      const common = { store, storeFolder: settings.certStore, now: settings.now, log };
      const problem = ekCertificateProblem({ ekcert: record.ekcert, ek, ...common });
      if (problem !== undefined) refuse(problem);
      if (record.provider_keys && Object.keys(record.provider_keys).length > 0) {
        const { ekcert } = record.provider_keys;
        const provider = ekCertificateProblem({
          ekcert: typeof ekcert === 'string' ? ekcert : null,
          ek: undefined,
          ...common,
        });
        if (provider !== undefined) refuse(`of its provider: ${provider}`);
      }
    }
  } else if (record.ekcert !== null) {
    // The chain does not matter to the operator, but a certificate of another EK means that somebody lies.
    const certificate = parseCertificate(record.ekcert);
    const mismatch = certificate.ok ? ekMismatch(certificate.value, ek) : undefined;
    if (mismatch !== undefined) refuse(mismatch);
  }

  if (settings.script === '') {
    if (!settings.requireEkCert) {
      log.warn(
        `DANGER: the EK of agent ${agent} is not checked at all: require_ek_cert is False and there is no ` +
          'ek_check_script. Anybody can be this agent',
      );
    }
    return;
  }
  log.info(`Checking EK for agent ${agent} with script ${settings.script}`);
  const output = await runEkScript({
    script: settings.script,
    workDir: settings.workDir,
    environment: settings.environment,
    variables: {
      AGENT_UUID: agent,
      EK: ek.export({ format: 'pem', type: 'spki' }).toString(),
      EK_TPM: record.ek_tpm,
      EK_CERT: record.ekcert ?? '',
      PROVKEYS: pythonJson(record.provider_keys ?? {}),
      TPM_CERT_STORE: settings.certStore,
    },
  });
  log.info(`ek_check output: ${output}`);
}

/** The EK in the registrar's record, if it is one. */
function ekKey(agent: AgentId, ekTpm: string): KeyObject {
  const bytes = parseBase64(ekTpm);
  try {
    if (bytes === undefined) throw new TenantError('ek_rejected', `ek_tpm of agent ${agent} is not base64`);
    const ek = decodePublic(bytes);
    const [problem] = ekProblems(ek);
    if (problem === undefined) return publicKey(ek);
    throw new TenantError(
      'ek_rejected',
      `ek_tpm of agent ${agent} is no endorsement key: ${describeKeyProblem(problem)}`,
    );
  } catch (error) {
    if (!(error instanceof DecodeError || error instanceof TpmKeyError)) throw error;
    throw new TenantError('ek_rejected', `ek_tpm of agent ${agent} is malformed: ${error.message}`, { cause: error });
  }
}
