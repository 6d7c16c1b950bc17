import { randomInt } from 'node:crypto';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import type { Kysely } from 'kysely';
import { type Agent, freshRecord } from './agent.ts';
import { type GroupWrite, insertAgent } from './agent-store.ts';
import type { EnrolmentRequest } from './enrolment.ts';
import type { KeyShareVault } from './key-share-vault.ts';
import { findPolicy, insertPolicy, type StoredPolicy } from './policy-store.ts';
import { acceptPolicy, isRefusal, type PolicySignatureSettings } from './submitted-policy.ts';
import type { VerifierTables } from './tables.ts';

export type EnrolResult =
  | { readonly ok: true; readonly agent: Agent }
  | { readonly ok: false; readonly code: 400 | 401 | 404 | 409; readonly status: string };

const refused = (code: 400 | 401 | 404 | 409, status: string): EnrolResult => ({ ok: false, code, status });

/**
 * Enrols an agent and stores its policy, both or neither, after everything was checked: a refused request leaves nothing
 * behind, and a policy that somebody else stored under the agent's name is never taken for the one submitted
 * (01 section 5.2 of the reference). Attestation starts from the first entry with nothing remembered.
 */
export async function enrol(
  write: GroupWrite,
  request: EnrolmentRequest,
  settings: PolicySignatureSettings & { readonly verifierId: string; readonly vault: KeyShareVault },
): Promise<EnrolResult> {
  const { runtimePolicy: submitted, supportedVersion, keyShare, ...enrolment } = request;
  const { id } = enrolment;
  const ownName = submitted.name ?? id;
  const text = submitted.text ?? (submitted.name === undefined ? EMPTY_RUNTIME_POLICY_TEXT : undefined);
  let policy: StoredPolicy | undefined;
  if (text !== undefined) {
    // The policy that accepts nothing needs nobody's signature.
    const requireSignature = settings.requireSignature && submitted.text !== undefined;
    const { keyPem } = submitted;
    const accepted = acceptPolicy(ownName, { text, keyPem }, { ...settings, requireSignature });
    if (isRefusal(accepted)) return refused(accepted.code, accepted.status);
    policy = accepted;
  }
  const agent: Agent = {
    ...enrolment,
    ...freshRecord(supportedVersion),
    runtimePolicyName: ownName,
    sealedKeyShare: keyShare && settings.vault.seal(id, keyShare),
    verifierId: settings.verifierId,
    // Anywhere: a round with an agent of this name that was deleted must not pass for one with this agent.
    revision: randomInt(2 ** 40),
  };
  keyShare?.fill(0);
  return write(async (trx) => {
    const taken = await trx.selectFrom('agents').select('agent_id').where('agent_id', '=', id).executeTakeFirst();
    if (taken !== undefined) return refused(409, `Agent of uuid ${id} already exists. Please use delete or update.`);
    if (policy === undefined) {
      if ((await findPolicy(trx as Kysely<VerifierTables>, ownName)) === undefined) {
        return refused(404, `Could not find IMA policy with name ${ownName}!`);
      }
    } else if (!(await insertPolicy(trx, policy))) {
      const advice = 'Please use a different name or delete the allowlist from the verifier.';
      return refused(409, `IMA policy with name ${ownName} already exists. ${advice}`);
    }
    await insertAgent(trx, agent);
    return { ok: true, agent };
  });
}
