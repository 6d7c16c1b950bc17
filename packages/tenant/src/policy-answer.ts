import { pythonRepr } from '@keylime/api/python-json';
import { type Answer, type ServerApi, unexpectedAnswer, warningsIn } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/** [compat] The answer is printed as a Python dict; one that is no JSON (204 has no body) as the empty one. */
export function finishPolicyCommand(tenant: Tenant, verifier: ServerApi, doing: string, answer: Answer): void {
  tenant.output.print(pythonRepr(answer.json ?? {}));
  for (const warning of warningsIn(answer)) tenant.output.log.warn(warning);
  if (answer.status < 400) return;
  if (answer.envelope === undefined) throw unexpectedAnswer(verifier, doing, answer);
  throw new TenantError(answer.status === 409 ? 'conflict' : 'unexpected_answer', pythonRepr(answer.json ?? {}));
}
