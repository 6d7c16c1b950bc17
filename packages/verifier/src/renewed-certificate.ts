import { X509Certificate } from 'node:crypto';
import { negotiateApiVersion } from '@keylime/api/versions';
import { parseBase64 } from '@keylime/core/base64';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import type { HttpClient } from '@keylime/service/http-client';
import type { Log } from '@keylime/service/log';
import type { Agent } from './agent.ts';

/**
 * The certificate (PEM) that took the place of the one an agent was enrolled with; `undefined` where there is none that
 * counts, or nobody could be asked: why is in the log.
 */
export type FindRenewed = (agent: Agent) => Promise<string | undefined>;

/** Whether the new certificate must be for the key of the old one. */
export type KeyRule = 'same_key' | 'any_key';

/** Questions under way at once; whoever comes then is asked about at one of its next rounds. */
const MOST_QUESTIONS = 32;

/** Asks the registrar, whose word on a certificate comes with the agent's registration. */
export function askRegistrar(
  registrar: Pick<HttpClient, 'request'>,
  keyRule: KeyRule,
  log: Log,
  now: () => Date = () => new Date(),
): FindRenewed {
  let questions = 0;
  return async (agent) => {
    if (agent.mtlsCert === undefined || questions >= MOST_QUESTIONS) return undefined;
    questions += 1;
    try {
      const record = await readRecord(registrar, agent.id);
      const renewed = judgeRenewed({ akTpm: agent.akTpm, mtlsCert: agent.mtlsCert }, record, keyRule, now());
      if (renewed.ok) {
        const { validTo: notAfter, fingerprint256: fingerprint } = renewed.value;
        log.warn('The agent has a new certificate, which its registration vouches for', {
          ...{ agent: agent.id, notAfter, fingerprint },
        });
        return renewed.value.toString();
      }
      log.warn('The agent shows another certificate, and the registrar does not vouch for it', {
        agent: agent.id,
        reason: renewed.problem,
      });
    } catch (error) {
      log.warn('The agent shows another certificate, and the registrar cannot be asked', { agent: agent.id, error });
    } finally {
      questions -= 1;
    }
    return undefined;
  };
}

/**
 * What a registration says of a certificate. [MUST] The registration is active, which only the TPM with this AK can make
 * it, and of the AK that was enrolled. `same_key` holds also where agents register in the clear: whoever changes a
 * registration on its way has not the agent's key.
 */
export function judgeRenewed(
  enrolled: { readonly akTpm: string; readonly mtlsCert: string },
  record: Json | undefined,
  keyRule: KeyRule,
  now: Date,
): Parsed<X509Certificate, string> {
  if (!isJsonObject(record)) return bad('there is no active registration of this agent');
  const [registered, expected] = [record.aik_tpm, enrolled.akTpm].map((text) =>
    typeof text === 'string' ? parseBase64(text) : undefined,
  );
  if (registered === undefined || expected === undefined || !registered.equals(expected)) {
    return bad('another AK is registered under this id: enrol the agent anew if that is right');
  }
  const [old, renewed] = [parseCertificate(enrolled.mtlsCert), parseCertificate(record.mtls_cert)];
  if (old === undefined || renewed === undefined) return bad('it is registered without a certificate');
  if (now < renewed.validFromDate || now > renewed.validToDate)
    return bad('the registered certificate does not hold now');
  if (renewed.raw.equals(old.raw)) {
    return bad('the certificate of the enrolment is the registered one: somebody else may be at its address');
  }
  const isSameKey = renewed.publicKey.equals(old.publicKey);
  if (keyRule === 'same_key' && !isSameKey) {
    return bad('the registered certificate is for another key: see agent_certificate_renewal, or enrol the agent anew');
  }
  return good(renewed);
}

/** The registrar's record of an active agent; `undefined` where it has none. @throws Error if it says something else */
async function readRecord(registrar: Pick<HttpClient, 'request'>, id: string): Promise<Json | undefined> {
  const get = async (path: string) => {
    const { code, body } = await registrar.request({ method: 'GET', path });
    const answer = parseJson(body.toString('utf8'));
    return { code, results: isJsonObject(answer) ? answer.results : undefined };
  };
  const { results: versions } = await get('/version');
  const offered =
    isJsonObject(versions) && Array.isArray(versions.supported_versions) ? versions.supported_versions : [];
  const version = negotiateApiVersion(offered.filter((one) => typeof one === 'string'));
  if (version === undefined) throw new Error('the registrar speaks no API version of this verifier');
  const { code, results } = await get(`/v${version}/agents/${id}`);
  if (code === 404) return undefined;
  if (code === 200) return results;
  throw new Error(`the registrar answered ${code} when it was asked for agent ${id}`);
}

function parseCertificate(pem: Json | undefined): X509Certificate | undefined {
  try {
    return typeof pem === 'string' ? new X509Certificate(pem) : undefined;
  } catch {
    return undefined;
  }
}
