import { randomInt } from 'node:crypto';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { type Agent, freshRecord } from './agent.ts';
import { type GroupWrite, insertAgent } from './agent-store.ts';
import type { BootPolicies } from './boot-policies.ts';
import type { EnrolmentRequest } from './enrolment.ts';
import { acceptMbPolicy } from './mb-policy.ts';
import { PolicyNotSignedError, signatureProblem } from './policy-signature.ts';
import { findPolicy, insertPolicy, type StoredMbPolicy, type StoredPolicy } from './policy-store.ts';
import type { SecretVault } from './secret-vault.ts';
import { acceptPolicy, isRefusal, type SubmissionSettings } from './submitted-policy.ts';

export type EnrolResult =
  | { readonly ok: true; readonly agent: Agent }
  | { readonly ok: false; readonly code: 400 | 401 | 404 | 409; readonly status: string };

const refused = (code: 400 | 401 | 404 | 409, status: string): EnrolResult => ({ ok: false, code, status });

/**
 * Enrols an agent and stores its policies, all or nothing, after everything was checked: a refused request leaves nothing
 * behind, and a policy that somebody else stored under the agent's name is never taken for the one submitted
 * (01 section 5.2 of the reference). Attestation starts from the first entry with nothing remembered.
 */
export async function enrol(
  write: GroupWrite,
  request: EnrolmentRequest,
  settings: SubmissionSettings & {
    readonly verifierId: string;
    readonly vault: SecretVault;
    /** Milliseconds after which an agent that pushes and sent nothing is missed. */
    readonly silenceMs: number;
  },
  bootPolicies: BootPolicies,
): Promise<EnrolResult> {
  const {
    runtimePolicy: submitted,
    mbPolicy: submittedMb,
    supportedVersion,
    keyShare,
    revocationKey,
    ...enrolment
  } = request;
  const { id } = enrolment;
  const ownName = submitted.name ?? id;
  const text = submitted.text ?? (submitted.name === undefined ? EMPTY_RUNTIME_POLICY_TEXT : undefined);
  let policy: StoredPolicy | undefined;
  if (text !== undefined) {
    // The policy that accepts nothing needs nobody's signature.
    const requireSignature = settings.requireSignature && submitted.text !== undefined;
    const { keyPem } = submitted;
    const accepted = await acceptPolicy(ownName, { text, keyPem }, { ...settings, requireSignature });
    if (isRefusal(accepted)) return refused(accepted.code, accepted.status);
    policy = accepted;
  }
  const mbName = submittedMb.name ?? id;
  let mbPolicy: StoredMbPolicy | undefined;
  if (submittedMb.name === undefined || submittedMb.text !== undefined) {
    const accepted = await acceptMbPolicy(mbName, submittedMb, bootPolicies);
    if (isRefusal(accepted)) return refused(accepted.code, accepted.status);
    mbPolicy = accepted;
  } else if (submittedMb.rules !== undefined) {
    return refused(400, `mb_policy_rules goes with mb_policy: the stored policy ${mbName} has its own`);
  }
  const agent: Agent = {
    ...enrolment,
    ...freshRecord(supportedVersion),
    attestByMs: enrolment.mode === 'push' ? Date.now() + settings.silenceMs : undefined,
    runtimePolicyName: ownName,
    sealedKeyShare: keyShare && settings.vault.seal(id, 'key share', keyShare),
    sealedRevocationKey:
      revocationKey === '' ? undefined : settings.vault.seal(id, 'revocation key', Buffer.from(revocationKey)),
    mbPolicyName: mbName,
    verifierId: settings.verifierId,
    // Anywhere: a round with an agent of this name that was deleted must not pass for one with this agent.
    revision: randomInt(2 ** 40),
  };
  keyShare?.fill(0);
  try {
    await write(async (trx) => {
      const taken = await trx.selectFrom('agents').select('agent_id').where('agent_id', '=', id).executeTakeFirst();
      if (taken !== undefined)
        throw new Refused(409, `Agent of uuid ${id} already exists. Please use delete or update.`);
      if (policy === undefined) {
        const stored = await findPolicy(trx, 'runtime_policies', ownName);
        if (stored === undefined) throw new Refused(404, `Could not find IMA policy with name ${ownName}!`);
        const problem = signatureProblem(stored, settings);
        if (problem !== undefined) throw new Refused(401, new PolicyNotSignedError(ownName, problem).message);
      } else if (!(await insertPolicy(trx, 'runtime_policies', policy))) {
        const advice = 'Please use a different name or delete the allowlist from the verifier.';
        throw new Refused(409, `IMA policy with name ${ownName} already exists. ${advice}`);
      }
      if (mbPolicy === undefined) {
        if ((await findPolicy(trx, 'mb_policies', mbName)) === undefined) {
          throw new Refused(404, `Could not find mb_policy with name ${mbName}!`);
        }
      } else if (!(await insertPolicy(trx, 'mb_policies', mbPolicy))) {
        const other = submittedMb.name === undefined ? 'You can' : 'Please use a different name or';
        throw new Refused(
          409,
          `mb_policy with name ${mbName} already exists. ${other} delete the mb_policy from the verifier.`,
        );
      }
      await insertAgent(trx, agent);
    });
  } catch (error) {
    if (error instanceof Refused) return refused(error.code, error.message);
    throw error;
  }
  return { ok: true, agent };
}

/** Thrown, so that what was written before it is rolled back. */
class Refused extends Error {
  readonly code: 401 | 404 | 409;
  constructor(code: 401 | 404 | 409, status: string) {
    super(status);
    this.code = code;
  }
}
