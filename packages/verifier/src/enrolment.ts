import { isUtf8 } from 'node:buffer';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { API_VERSIONS, CURRENT_API_VERSION } from '@keylime/api/versions';
import type { AcceptedAlgorithms } from '@keylime/appraisal/algorithms';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { parseKeyring } from '@keylime/ima/keyring';
import { IMA_EXTEND_MODES } from '@keylime/ima/replay';
import { isKeySize } from '@keylime/payload/key-split';
import { decodeTpmPolicy } from '@keylime/policies/tpm-policy';
import { isHost } from '@keylime/service/http-endpoint';
import { akProblems } from '@keylime/tpm/key-checks';
import { decodePublic, publicKey } from '@keylime/tpm/public';
import type { AttestationMode, Enrolment } from './agent.ts';
import type { GivenReference } from './boot-policies.ts';
import { isPolicyName, POLICY_NAME_RULE } from './policy-name.ts';

/** What the body of `POST /agents/{id}` asks for; the policy may still turn out not to be there. */
export type EnrolmentRequest = Omit<
  Enrolment,
  'runtimePolicyName' | 'sealedRevocationKey' | 'mbPolicyName' | 'sealedKeyShare'
> & {
  readonly supportedVersion: string;
  readonly runtimePolicy: SubmittedPolicy;
  readonly mbPolicy: SubmittedMbPolicy;
  /** V, the verifier's half of the payload key. */
  readonly keyShare: Buffer | undefined;
  /** PEM of the RSA key for notifications about this agent; empty: the verifier's own signs them. */
  readonly revocationKey: string;
};

/** A runtime policy as it comes with a request: its name, its text, and a key for its signature, each if given. */
export type SubmittedPolicy = {
  readonly name: string | undefined;
  readonly text: string | undefined;
  readonly keyPem: string | undefined;
};

/** What a request brings for measured boot: a name for it, and the reference state. */
export type SubmittedMbPolicy = GivenReference & { readonly name: string | undefined };

export type EnrolmentSettings = {
  /** How agents are attested that are enrolled here. */
  readonly mode: AttestationMode;
  readonly enableAgentMtls: boolean;
  readonly verifierIp: string;
  readonly verifierPort: number;
};

/**
 * The enrolment in the body of a request, or every problem that it has, each naming its field. Old names and shapes
 * (01 section 5.2 of the reference): JSON in strings, ports as numbers or numeric text, base64 of the runtime policy.
 */
export function decodeEnrolment(
  id: AgentId,
  body: Json | undefined,
  settings: EnrolmentSettings,
): Parsed<EnrolmentRequest, readonly string[]> {
  if (!isJsonObject(body)) return bad(['the body must be a JSON object']);
  const fields = new Fields(body);

  // An agent that pushes has no ear: what tools say of its address is passed over.
  const listens = settings.mode === 'pull';
  const ip = listens ? fields.host('cloudagent_ip') : '';
  const port = listens ? fields.port('cloudagent_port') : 0;
  const verifierIp = fields.optionalText('verifier_ip') ?? settings.verifierIp;
  const verifierPort = fields.optionalPort('verifier_port') ?? settings.verifierPort;
  const tpmPolicy = fields.filledText('tpm_policy');
  const metadata = fields.text('metadata');
  const accepted: AcceptedAlgorithms = {
    hash: fields.texts('accept_tpm_hash_algs'),
    encryption: fields.texts('accept_tpm_encryption_algs'),
    signing: fields.texts('accept_tpm_signing_algs'),
  };
  const akTpm = fields.filledText('ak_tpm');
  const revocationKey = fields.text('revocation_key');
  const mtlsCert = fields.optionalText('mtls_cert');
  const supportedVersion = fields.optionalText('supported_version') ?? CURRENT_API_VERSION;
  const runtimePolicy = submittedPolicy(fields);
  const keyShare = fields.keyShare('v');
  const mbPolicy = submittedMbPolicy(fields);
  const signatureKeys = fields.optionalText('ima_sign_verification_keys') ?? '';
  const imaExtendMode = fields.optionalChoice('ima_extend_mode', IMA_EXTEND_MODES);

  if (tpmPolicy !== '') fields.add(tpmPolicyProblems(tpmPolicy));
  if (metadata !== '' && parseJson(metadata) === undefined) fields.add(['metadata is not JSON text']);
  if (akTpm !== '') fields.add(akTpmProblems(akTpm));
  fields.add(keyringProblems(signatureKeys));
  if (revocationKey !== '') fields.add(revocationKeyProblems(revocationKey));
  const certificate = mtlsCert === undefined || mtlsCert === '' || mtlsCert === 'disabled' ? undefined : mtlsCert;
  if (!listens && keyShare !== undefined) {
    fields.add([
      'v cannot be delivered: this verifier runs with mode = push, and agents that push take no payload; enrol the agent without one',
    ]);
  }
  if (listens && settings.enableAgentMtls && certificate === undefined)
    fields.add(['mTLS certificate for agent is required!']);
  if (listens && certificate !== undefined) fields.add(certificateProblems(certificate));
  if (fields.problems.length > 0) return bad(fields.problems);

  const known: readonly string[] = API_VERSIONS;
  return good({
    id,
    mode: settings.mode,
    ip,
    port,
    verifierIp,
    verifierPort,
    tpmPolicy,
    metadata,
    runtimePolicy,
    keyShare,
    mbPolicy,
    accepted,
    akTpm,
    mtlsCert: listens && settings.enableAgentMtls ? certificate : undefined,
    revocationKey,
    // [compat] Tools that have no keys send an empty list, an empty keyring or nothing.
    ...(hasKeys(signatureKeys) && { imaSignVerificationKeys: signatureKeys }),
    ...(imaExtendMode && { imaExtendMode }),
    supportedVersion: known.includes(supportedVersion) ? supportedVersion : CURRENT_API_VERSION,
  });
}

/** The runtime policy in the body of a request; bodies of policy routes have the same fields. */
export function decodeSubmittedPolicy(body: Json | undefined): Parsed<SubmittedPolicy, readonly string[]> {
  if (!isJsonObject(body)) return bad(['the body must be a JSON object']);
  const fields = new Fields(body);
  const policy = submittedPolicy(fields);
  return fields.problems.length > 0 ? bad(fields.problems) : good(policy);
}

function submittedPolicy(fields: Fields): SubmittedPolicy {
  return {
    name: fields.policyName('runtime_policy_name'),
    text: fields.base64Text('runtime_policy'),
    keyPem: fields.base64Text('runtime_policy_key', { required: false }),
  };
}

/** The measured-boot policy in the body of a request to the routes of such policies; its name is in the path. */
export function decodeSubmittedMbPolicy(body: Json | undefined): Parsed<GivenReference, readonly string[]> {
  if (!isJsonObject(body)) return bad(['the body must be a JSON object']);
  const fields = new Fields(body);
  const policy = submittedMbPolicy(fields);
  return fields.problems.length > 0 ? bad(fields.problems) : good(policy);
}

/** [compat] Empty text counts as not given. */
const submittedMbPolicy = (fields: Fields): SubmittedMbPolicy => ({
  name: fields.policyName('mb_policy_name'),
  text: fields.optionalText('mb_policy') || undefined,
  rules: fields.optionalText('mb_policy_rules') || undefined,
});

/** Reads fields of a request and gathers what is wrong with them. A field that is wrong reads as empty. */
class Fields {
  readonly problems: string[] = [];
  readonly #body: { readonly [key: string]: Json };
  constructor(body: { readonly [key: string]: Json }) {
    this.#body = body;
  }
  add(problems: readonly string[]): void {
    this.problems.push(...problems);
  }
  text(name: string): string {
    const value = this.#body[name];
    if (typeof value === 'string') return value;
    this.problems.push(value === undefined ? `${name} is missing` : `${name} must be text`);
    return '';
  }
  optionalText(name: string): string | undefined {
    const value = this.#body[name] ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    this.problems.push(`${name} must be text or null`);
    return undefined;
  }
  optionalChoice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const text = this.optionalText(name);
    const found = choices.find((choice) => choice === text);
    if (text !== undefined && found === undefined) this.problems.push(`${name} must be one of ${choices.join(', ')}`);
    return found;
  }
  /** Text that is not empty. */
  filledText(name: string): string {
    if (this.#body[name] === '') this.problems.push(`${name} is empty`);
    return this.text(name);
  }
  host(name: string): string {
    const value = this.filledText(name);
    if (value !== '' && !isHost(value)) this.problems.push(`${name} must be an IP address or a host name`);
    return value;
  }
  /** Empty or absent counts as not given. */
  policyName(name: string): string | undefined {
    const value = this.optionalText(name) || undefined;
    if (value !== undefined && !isPolicyName(value)) this.problems.push(`${name}: ${POLICY_NAME_RULE}`);
    return value;
  }
  texts(name: string): readonly string[] {
    const value = this.#body[name];
    if (Array.isArray(value) && value.every((item): item is string => typeof item === 'string')) return value;
    this.problems.push(value === undefined ? `${name} is missing` : `${name} must be a list of texts`);
    return [];
  }
  port(name: string): number {
    const value = this.#body[name];
    const port = typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value;
    if (typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65536) return port;
    this.problems.push(value === undefined ? `${name} is missing` : `${name} must be a port from 1 to 65535`);
    return 0;
  }
  optionalPort(name: string): number | undefined {
    return (this.#body[name] ?? undefined) === undefined ? undefined : this.port(name);
  }
  /** Half of a payload key in base64; empty or null counts as not given. The problem never shows it. */
  keyShare(name: string): Buffer | undefined {
    const value = this.optionalText(name);
    if (value === undefined || value === '') return undefined;
    const bytes = parseBase64(value);
    if (bytes !== undefined && isKeySize(bytes)) return bytes;
    this.problems.push(`${name} must be 16 or 32 bytes in base64: the verifier's half of the payload key`);
    return undefined;
  }
  /** Text in base64; empty or (where allowed) absent counts as not given. */
  base64Text(name: string, { required } = { required: true }): string | undefined {
    const value = required ? this.text(name) : this.optionalText(name);
    if (value === undefined || value === '') return undefined;
    const bytes = parseBase64(value);
    if (bytes !== undefined && isUtf8(bytes)) return bytes.toString('utf8');
    this.problems.push(bytes === undefined ? `${name} is not base64` : `${name} is not UTF-8 text in base64`);
    return undefined;
  }
}

const MOST_SHOWN_PROBLEMS = 10;

function tpmPolicyProblems(text: string): readonly string[] {
  const policy = decodeTpmPolicy(text);
  if (policy.ok) return [];
  const shown = policy.problem.slice(0, MOST_SHOWN_PROBLEMS).map((problem) => `tpm_policy: ${problem}`);
  const more = policy.problem.length - shown.length;
  return more > 0 ? [...shown, `tpm_policy: and ${more} more problems`] : shown;
}

function akTpmProblems(text: string): readonly string[] {
  const bytes = parseBase64(text);
  if (bytes === undefined) return ['ak_tpm is not base64'];
  try {
    const ak = decodePublic(bytes);
    publicKey(ak);
    return akProblems(ak).map(({ kind }) => `ak_tpm is not an attestation key: ${kind}`);
  } catch (error) {
    return [`ak_tpm is not a TPM2B_PUBLIC: ${error instanceof Error ? error.message : error}`];
  }
}

function keyringProblems(text: string): readonly string[] {
  const keyring = parseKeyring(text);
  return keyring.ok ? [] : [`ima_sign_verification_keys: ${keyring.problem.message}`];
}

function hasKeys(text: string): boolean {
  const keyring = parseKeyring(text);
  return keyring.ok && keyring.value.size > 0;
}

function revocationKeyProblems(pem: string): readonly string[] {
  try {
    const key = createPrivateKey(pem);
    return key.asymmetricKeyType === 'rsa' ? [] : ['revocation_key must be an RSA private key'];
  } catch {
    return ['revocation_key is not a private key in PEM'];
  }
}

function certificateProblems(pem: string): readonly string[] {
  try {
    new X509Certificate(pem);
    return [];
  } catch {
    return ['mtls_cert is not a certificate in PEM'];
  }
}
