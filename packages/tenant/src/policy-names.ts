import type { AgentId } from '@keylime/core/agent-id';
import type { PolicyFields } from './policy-options.ts';
import { answerText, type ServerApi, segment, unexpectedAnswer } from './server-api.ts';
import { TenantError } from './tenant-error.ts';

/**
 * Looks whether the verifier will take the policy names of an enrolment: a name alone must exist, a name for a new policy
 * must not. `update` asks before it deletes anything.
 */
export async function requireFreePolicyNames(
  verifier: ServerApi,
  { id, policies }: { readonly id: AgentId; readonly policies: PolicyFields },
): Promise<void> {
  const { runtime_policy_name, runtime_policy, mb_policy_name, mb_policy } = policies;
  const runtime = { what: 'Runtime policy', route: 'allowlists', command: 'runtimepolicy' };
  const mb = { what: 'Measured-boot policy', route: 'mbpolicies', command: 'mbpolicy' };
  await requireFreeName(verifier, id, { ...runtime, name: runtime_policy_name, isNew: runtime_policy !== '' });
  await requireFreeName(verifier, id, { ...mb, name: mb_policy_name, isNew: mb_policy !== null });
}

async function requireFreeName(
  verifier: ServerApi,
  id: AgentId,
  {
    what,
    route,
    command,
    name,
    isNew,
  }: { readonly [K in 'what' | 'route' | 'command' | 'name']: string } & { readonly isNew: boolean },
): Promise<void> {
  if (name === '') return;
  if (name === id) {
    const why = 'a verifier deletes it together with the agent, which update does';
    throw new TenantError('conflict', `${what} ${name} is named like the agent: ${why}. Store it under another name`);
  }
  const answer = await verifier.call('GET', `/${route}/${segment(name)}`);
  if (answer.status !== 200 && answer.status !== 404) {
    throw unexpectedAnswer(verifier, `looking up ${what.toLowerCase()} ${name}`, answer);
  }
  if (isNew && answer.status === 200) {
    const advice = `change it with update${command}, and update the agent with the name alone`;
    throw new TenantError('conflict', `${what} ${name} already exists on ${verifier.label}: ${advice}`);
  }
  if (!isNew && answer.status === 404) {
    throw new TenantError('conflict', `${verifier.label}: ${answerText(answer)}; store it with add${command} first`);
  }
}
