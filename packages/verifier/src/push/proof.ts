import { parseBinary } from '@keylime/api/push-value';
import { parseBase64 } from '@keylime/core/base64';
import { DecodeError, decode } from '@keylime/core/codec';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { type CertifyFailure, verifyCertify } from '@keylime/tpm/certify';
import { decodePublic, objectName, type TpmtPublic } from '@keylime/tpm/public';
import { TpmtSignature } from '@keylime/tpm/signature';
import type { Agent } from '../agent.ts';
import { CorruptRowError } from '../stored-agent.ts';

/** Why a proof of possession was not accepted; for the log, for the peer is told only that it was not. */
export type ProofProblem =
  | CertifyFailure['kind']
  | 'proof_missing'
  | 'proof_not_base64'
  | 'signature_malformed'
  | 'scheme_not_of_ak'
  | 'algorithm_not_accepted';

/** The two structures of a proof as they came: TPMS_ATTEST and TPMT_SIGNATURE in base64. */
export type Proof = { readonly message: string; readonly signature: string };

/** The AK that an agent was enrolled with. @throws CorruptRowError */
export function enrolledAk(agent: Pick<Agent, 'id' | 'akTpm'>): TpmtPublic {
  const bytes = parseBase64(agent.akTpm);
  if (bytes === undefined) throw new CorruptRowError(agent.id, 'enrolment');
  return decodePublic(bytes);
}

/** The Name of the AK, hex: another key has another one. */
export const akNameOf = (agent: Pick<Agent, 'id' | 'akTpm'>): string => objectName(enrolledAk(agent)).toString('hex');

/**
 * Whether a TPM that holds the enrolled AK answered the challenge: TPM2_Certify of the AK by itself over exactly these bytes
 * (05 section 4.3 of the reference). Scheme and hash are the AK's own and such as the operator accepts. The good result is
 * the Name of the AK, hex.
 */
export function verifyProof(
  proof: Proof | undefined,
  agent: Agent,
  challenge: Uint8Array,
): Parsed<string, ProofProblem> {
  if (proof === undefined || proof.message === '' || proof.signature === '') return bad('proof_missing');
  const attest = parseBinary(proof.message);
  const signature = parseBinary(proof.signature);
  if (attest === undefined || signature === undefined) return bad('proof_not_base64');
  const ak = enrolledAk(agent);
  const problem = schemeProblem(signature, ak, agent);
  if (problem !== undefined) return bad(problem);
  const name = objectName(ak);
  const verified = verifyCertify({ attest, signature, signer: ak, qualifyingData: [challenge], certifiedName: name });
  return verified.ok ? good(name.toString('hex')) : bad(verified.failure.kind);
}

function schemeProblem(bytes: Buffer, ak: TpmtPublic, { accepted }: Agent): ProofProblem | undefined {
  let signature: TpmtSignature;
  try {
    signature = decode(TpmtSignature, bytes);
  } catch (error) {
    if (error instanceof DecodeError) return 'signature_malformed';
    throw error;
  }
  if (ak.scheme.type !== 'null' && ak.scheme.type !== signature.type) return 'scheme_not_of_ak';
  if ('hash' in ak.scheme && ak.scheme.hash !== signature.hash) return 'scheme_not_of_ak';
  const isAccepted = accepted.signing.includes(signature.type) && accepted.hash.includes(signature.hash);
  return isAccepted ? undefined : 'algorithm_not_accepted';
}
