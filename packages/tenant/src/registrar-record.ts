import type { AgentId } from '@keylime/core/agent-id';
import { isJsonObject, type Json } from '@keylime/core/json';
import { answerText, resultsOf, type ServerApi, segment, unexpectedAnswer } from './server-api.ts';
import { TenantError } from './tenant-error.ts';

/** What the registrar says of an active agent (spec 01 section 4.5), by the names of the wire. Nothing in it is verified. */
export type RegistrarRecord = {
  /** base64 of TPM2B_PUBLIC. */
  readonly aik_tpm: string;
  readonly regcount: number;
  /** base64 of TPM2B_PUBLIC. */
  readonly ek_tpm: string;
  readonly ip: string | null;
  readonly port: number | string | null;
  /** PEM, or `disabled`. */
  readonly mtls_cert: string | null;
  /** base64 DER, or `emulator`. */
  readonly ekcert: string | null;
  readonly provider_keys?: { readonly [key: string]: Json };
};

/**
 * The registrar's record of `id`, or its explanation if it has none. The AK in it is what every later check rests on: the
 * connection must be authenticated both ways.
 * @throws TenantError `unexpected_answer` for another answer or a record that lacks a field.
 */
export async function findRegistrarRecord(
  registrar: ServerApi,
  id: AgentId,
): Promise<RegistrarRecord | { readonly absent: string }> {
  const answer = await registrar.call('GET', `/agents/${segment(id)}`);
  if (answer.status === 404) return { absent: answerText(answer) };
  const results = resultsOf(answer);
  if (answer.status !== 200 || results === undefined) {
    throw unexpectedAnswer(registrar, `looking up agent ${id}`, answer);
  }
  const problem = recordProblem(results, id);
  if (problem !== undefined) {
    throw new TenantError('unexpected_answer', `${registrar.label} sent a record of agent ${id} ${problem}`);
  }
  return {
    aik_tpm: String(results.aik_tpm),
    regcount: Number(results.regcount),
    ek_tpm: String(results.ek_tpm),
    ip: textOrNull(results.ip),
    port: typeof results.port === 'number' ? results.port : textOrNull(results.port),
    mtls_cert: textOrNull(results.mtls_cert),
    ekcert: textOrNull(results.ekcert),
    ...(isJsonObject(results.provider_keys) ? { provider_keys: results.provider_keys } : {}),
  };
}

function recordProblem(results: { readonly [key: string]: Json }, id: AgentId): string | undefined {
  const missing = ['aik_tpm', 'regcount', 'ek_tpm', 'ip', 'port'].filter((field) => !Object.hasOwn(results, field));
  if (missing.length > 0) return `without ${missing.join(', ')}`;
  if (typeof results.aik_tpm !== 'string' || results.aik_tpm === '') return 'whose aik_tpm is no text';
  if (typeof results.ek_tpm !== 'string' || results.ek_tpm === '') return 'whose ek_tpm is no text';
  if (typeof results.regcount !== 'number') return 'whose regcount is no number';
  if (typeof results.agent_id === 'string' && results.agent_id !== id) return 'that is of another agent';
  return undefined;
}

const textOrNull = (value: Json | undefined): string | null =>
  typeof value === 'string' && value !== '' ? value : null;
