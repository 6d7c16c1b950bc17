import { createHash } from 'node:crypto';
import type { AgentRegistration } from '@keylime/api/agent/registration';
import type { AgentId } from '@keylime/core/agent-id';
import { activateCredential } from '@keylime/tpm/ak';
import { authTag, decodeChallenge } from '@keylime/tpm/credential';
import { certify } from '@keylime/tpm/iak';
import { encodePublic } from '@keylime/tpm/public';
import type { DeviceIdentity } from './device-identity.ts';
import type { IdentityKeys } from './tpm-attester.ts';

/** What the registrar is told besides the keys. */
export type Contact = {
  readonly ip: string;
  readonly port: number;
  /** PEM of the server's certificate, or the word `disabled`. */
  readonly mtlsCert: string;
};

/**
 * The body of a registration (spec 02 section 2.2). With a device identity the IAK certifies that the AK is in its TPM, over
 * SHA-256 of the agent id (`digest`) or, for registrars before API 2.6, over the id itself. @throws TpmError
 */
export async function registrationBody(options: {
  readonly agentId: AgentId;
  readonly keys: IdentityKeys;
  readonly ekCertificates: string | undefined;
  readonly contact: Contact;
  readonly device: DeviceIdentity | undefined;
  readonly qualifying: 'digest' | 'id';
}): Promise<AgentRegistration> {
  const { agentId, keys, ekCertificates, contact, device } = options;
  const common = {
    aik_tpm: encodePublic(keys.ak.public).toString('base64'),
    ek_tpm: encodePublic(keys.ek.public).toString('base64'),
    ...(ekCertificates !== undefined && { ekcert: ekCertificates }),
    mtls_cert: contact.mtlsCert,
    ip: contact.ip,
    port: contact.port,
  };
  if (device === undefined) return { ...common, iak_cert: null, idevid_cert: null };
  const id = Buffer.from(agentId, 'utf8');
  const qualifyingData = options.qualifying === 'digest' ? createHash('sha256').update(id).digest() : id;
  const { iak: signer, iakAuth: signerAuth, registration } = device;
  const { attest, signature } = await certify(keys.tpm, { object: keys.ak, signer, qualifyingData, signerAuth });
  return {
    ...common,
    ...registration,
    iak_attest: attest.toString('base64'),
    iak_sign: signature.toString('base64'),
  };
}

/**
 * The activation tag for the challenge in `blob`, which only this TPM can open (spec 02 section 2.6).
 * @throws DecodeError if the blob is malformed; TpmError if it was made for another EK or AK.
 */
export async function activationTag(options: {
  readonly agentId: AgentId;
  readonly keys: IdentityKeys;
  readonly hierarchyAuth: Buffer;
  readonly blob: Buffer;
}): Promise<string> {
  const { agentId, keys, hierarchyAuth, blob } = options;
  const { ek, ak } = keys;
  const secret = await activateCredential(keys.tpm, { ek, ak, hierarchyAuth, credential: decodeChallenge(blob) });
  return authTag(secret.toString('base64'), agentId);
}
