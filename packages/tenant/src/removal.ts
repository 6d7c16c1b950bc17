import type { AgentId } from '@keylime/core/agent-id';
import type { Output } from './output.ts';
import { type RetrySettings, withRetries } from './retry.ts';
import { answerText, type ServerApi, segment, unexpectedAnswer } from './server-api.ts';
import { TenantError } from './tenant-error.ts';
import { showVerifierRecord, type VerifierRecord } from './verifier-record.ts';

/**
 * Takes an agent out of the verifier that the operator named, and waits until it is out. An agent that is not there is
 * no error. With `check` the verifier is asked for its record first (`-nvc` turns that off).
 */
export async function removeFromVerifier(
  verifier: ServerApi,
  id: AgentId,
  options: { readonly check: boolean; readonly pushModel: boolean; readonly retries: RetrySettings },
  output: Output,
): Promise<void> {
  const { log } = output;
  if (options.check) {
    const record = await showVerifierRecord(verifier, id, options.pushModel, output);
    if (record === undefined) {
      log.info(`Agent ${id} is not on ${verifier.label}: there is nothing to delete`);
      return;
    }
    warnIfElsewhere(verifier, id, record, output);
  }
  const answer = await verifier.call('DELETE', `/agents/${segment(id)}`);
  switch (answer.status) {
    case 200:
      break;
    case 202:
      await waitUntilGone(verifier, id, options, output);
      break;
    case 404:
      if (/associated to this verifier/.test(answerText(answer))) {
        throw new TenantError(
          'unexpected_answer',
          `Agent ${id} belongs to another verifier than ${verifier.label}: name that one with -v and -vp`,
        );
      }
      log.info(`Agent ${id} is already absent from the CV`);
      return;
    default:
      throw unexpectedAnswer(verifier, `deleting agent ${id}`, answer);
  }
  log.info(`Agent ${id} deleted from the CV`);
}

/** The existing tool would now talk to the address in the record; the operator's word counts here. */
export function warnIfElsewhere(verifier: ServerApi, id: AgentId, record: VerifierRecord, { log }: Output): void {
  const { verifier_ip: ip, verifier_port: port } = record;
  if (typeof ip !== 'string' || (ip === verifier.host && String(port) === verifier.port)) return;
  log.warn(
    `The record of agent ${id} names the verifier ${ip}:${String(port)}; the request goes to ${verifier.label}, as asked. ` +
      'Use -v and -vp for another one',
  );
}

async function waitUntilGone(
  verifier: ServerApi,
  id: AgentId,
  { retries, pushModel }: { readonly retries: RetrySettings; readonly pushModel: boolean },
  output: Output,
): Promise<void> {
  const gone = await withRetries(
    retries,
    async () => ((await showVerifierRecord(verifier, id, pushModel, output)) ? 'again' : {}),
    (n, seconds) => {
      output.log.info(
        `Agent ${id} still not deleted from ${verifier.label} at try ${n}/${retries.attempts}, trying again in ${seconds} seconds...`,
      );
    },
  );
  if (gone === undefined) {
    throw new TenantError(
      'gave_up',
      `Agent ${id} was not deleted from ${verifier.label} after ${retries.attempts} tries: it still ends its last attestation, look with cvstatus`,
    );
  }
  output.log.info(`Agent ${id} was deleted from ${verifier.label} after ${gone.failures} tries`);
}
