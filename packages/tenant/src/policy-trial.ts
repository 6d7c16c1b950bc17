import { randomUUID } from 'node:crypto';
import type { Log } from '@keylime/service/log';
import type { PolicyFields } from './policy-options.ts';
import { answerText, type ServerApi, segment } from './server-api.ts';
import { TenantError } from './tenant-error.ts';

/** What verifiers without the route answer. */
const NO_ROUTE: readonly number[] = [404, 405, 410];

/**
 * Has the verifier say whether it takes the runtime policy of an enrolment, before `update` deletes anything: only it knows
 * its regular expressions, its keys and its limits. The policy is stored under a name that nobody has, and deleted at once.
 * @throws TenantError `policy_invalid` with the verifier's reason, `unreachable`
 */
export async function requireAcceptedPolicy(
  verifier: ServerApi,
  { tpm_policy, runtime_policy, runtime_policy_key }: PolicyFields,
  log: Log,
): Promise<void> {
  if (runtime_policy === '') return;
  const path = `/allowlists/${segment(`trial-${randomUUID()}`)}`;
  const answer = await verifier.call('POST', path, { tpm_policy, runtime_policy, runtime_policy_key });
  if (NO_ROUTE.includes(answer.status)) return;
  if (answer.status !== 200 && answer.status !== 201) {
    const why = `${answer.status} ${answerText(answer)}`;
    throw new TenantError(
      'policy_invalid',
      `${verifier.label} does not take the runtime policy, nothing was changed: ${why}`,
    );
  }
  const removed = await verifier.call('DELETE', path);
  if (removed.status >= 300) log.warn(`${verifier.label} keeps the policy ${path}: ${answerText(removed)}`);
}
