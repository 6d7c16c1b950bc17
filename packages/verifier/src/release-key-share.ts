import { constants, createPublicKey, type KeyObject, publicEncrypt } from 'node:crypto';
import { saysVersionNotSupported } from '@keylime/api/versions';
import { isRetried, statusText, unreachableReason } from './agent-answer.ts';
import type { AgentAnswer, AgentConnection } from './agent-connection.ts';

/** What became of a key share that was to be given to an agent. */
export type Release =
  | { readonly kind: 'delivered' }
  /** Nobody took it: it is tried again, after another attestation. */
  | { readonly kind: 'unreachable'; readonly reason: string }
  /** What no later round can mend: the agent does not take it, or its key is none that it could be given under. */
  | { readonly kind: 'refused'; readonly reason: string };

const LEAST_RSA_BITS = 2048;

/**
 * Gives the key share V to an agent: `keys/vkey`, RSA-OAEP with SHA-1 under the transport key (02 sections 5.1 and 5.4 of the
 * reference). To be called for a key that an attestation bound to the TPM a moment ago, and for no other. Rejects only if
 * something of ours is broken.
 */
export async function releaseKeyShare(
  share: Uint8Array,
  { transportKeyPem, apiVersion }: { readonly transportKeyPem: string; readonly apiVersion: string },
  connection: AgentConnection,
): Promise<Release> {
  const key = rsaKey(transportKeyPem);
  if (key === undefined) {
    return { kind: 'refused', reason: `The agent's transport key is no RSA key of ${LEAST_RSA_BITS} bits or more` };
  }
  // [compat] SHA-1 is what agents decrypt with; OAEP does not rest on its resistance against collisions.
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const encrypted = publicEncrypt({ key, padding, oaepHash: 'sha1' }, share);
  let answer: AgentAnswer;
  try {
    answer = await connection.post(`/v${apiVersion}/keys/vkey`, { encrypted_key: encrypted.toString('base64') });
  } catch (error) {
    return { kind: 'unreachable', reason: unreachableReason(error) };
  }
  if (answer.status === 200) return { kind: 'delivered' };
  const text = statusText(answer);
  const reason = `The agent answered ${answer.status} to its key share: ${text || 'no reason given'}`;
  // The next attestation finds out which version the agent speaks now.
  const mayPass = isRetried(answer) || (answer.status === 400 && saysVersionNotSupported(text));
  return { kind: mayPass ? 'unreachable' : 'refused', reason };
}

function rsaKey(pem: string): KeyObject | undefined {
  try {
    const key = createPublicKey(pem);
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    return key.asymmetricKeyType === 'rsa' && bits >= LEAST_RSA_BITS ? key : undefined;
  } catch {
    return undefined;
  }
}
