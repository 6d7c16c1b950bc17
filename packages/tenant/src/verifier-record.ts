import type { AgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import { adviceLines } from './failure-advice.ts';
import { failureLines } from './failure-lines.ts';
import { shownStatus } from './operational-state.ts';
import { type Output, printJson } from './output.ts';
import { resultsOf, type ServerApi, segment, unexpectedAnswer } from './server-api.ts';

export type VerifierRecord = { readonly [key: string]: Json };

/**
 * The verifier's record of `id`, shown on stdout, or `undefined` if it has none, which is said, too. [compat] A push agent
 * is shown without `operational_state`.
 */
export async function showVerifierRecord(
  verifier: ServerApi,
  id: AgentId,
  pushModel: boolean,
  output: Output,
): Promise<VerifierRecord | undefined> {
  const answer = await verifier.call('GET', `/agents/${segment(id)}`);
  if (answer.status === 404) {
    output.log.info(`Verifier at ${verifier.host} with Port ${verifier.port} does not have agent ${id}.`);
    return undefined;
  }
  const results = resultsOf(answer);
  if (answer.status !== 200 || results === undefined) {
    throw unexpectedAnswer(verifier, `looking up agent ${id}`, answer);
  }
  const shown = shownStatus(results, pushModel ? undefined : results.operational_state);
  printJson(output, `Agent Info from ${verifier.label}:`, { [id]: shown });
  for (const line of failureLines(results)) output.log.warn(`Failure of agent ${id}: ${line}`);
  for (const line of adviceLines(results)) output.log.warn(`What to do about ${line}`);
  return results;
}
