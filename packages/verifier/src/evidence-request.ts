import { isUtf8 } from 'node:buffer';
import { failure, success } from '@keylime/api/envelope';
import { quotedBootAggregates } from '@keylime/appraisal/appraise';
import { type FailureEvent, failureEvent, withMoreFailures } from '@keylime/appraisal/event';
import { appraiseBoot, type BootExpectation, referenceChecksum } from '@keylime/appraisal/measured-boot';
import { appraisePcrs } from '@keylime/appraisal/pcr-policy';
import { appraiseRuntimeIntegrity } from '@keylime/appraisal/runtime-integrity';
import { parseBase64 } from '@keylime/core/base64';
import { DecodeError } from '@keylime/core/codec';
import { isHashAlgorithm } from '@keylime/core/digest';
import { isJsonObject, type Json, parseJsonWithin } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { IMA_PCR } from '@keylime/ima/replay';
import { isEmptyReference } from '@keylime/measured-boot/empty-reference';
import type { PolicyCache } from '@keylime/policies/policy-cache';
import { decodeTpmPolicy } from '@keylime/policies/tpm-policy';
import { akProblems, describeKeyProblem } from '@keylime/tpm/key-checks';
import { decodePublic, TpmKeyError, type TpmtPublic } from '@keylime/tpm/public';
import { verifyQuote } from '@keylime/tpm/quote';
import { type BootUnjudged, MOST_JSON_PARTS } from './judge.ts';
import { passedOver } from './passed-over.ts';

/** Evidence that somebody brings to be judged once: nothing is remembered, no clock is compared, no key is bound. */
export type EvidenceRequest = {
  readonly quote: string;
  readonly nonce: string;
  readonly hashAlg: string;
  readonly ak: Uint8Array;
  readonly tpmPolicy: string | undefined;
  readonly runtimePolicy: string | undefined;
  readonly imaList: string | undefined;
  /** A reference state that says something. */
  readonly mbPolicy: string | undefined;
  readonly bootLog: string | undefined;
};

/** Who judges a boot, and what the answer was if there is one yet. */
export type BootRules = Pick<BootExpectation, 'pcrs' | 'verdict'> & { readonly rules: string };

export type EvidenceVerdict = {
  readonly valid: boolean;
  readonly failures: readonly { readonly type: string; readonly context: FailureEvent['context'] }[];
};

/** Why a request is not judged: the status code and text of the answer. */
export type EvidenceRefusal = { readonly code: 400 | 501; readonly status: string };

/** The request in a body of `POST /verify/evidence` (01 section 5.8 of the reference), or why it is refused. */
export function decodeEvidenceRequest(body: Json | undefined): Parsed<EvidenceRequest, EvidenceRefusal> {
  const refused = (status: string, code: 400 | 501 = 400) => bad({ code, status });
  if (!isJsonObject(body)) return refused('the body must be a JSON object');
  if (typeof body.type !== 'string' || body.type === '') return refused("missing parameter 'type'");
  if (!isJsonObject(body.data)) return refused("missing parameter 'data'");
  if (body.type === 'tee') return refused('evidence of type tee is not served by this version', 501);
  if (body.type !== 'tpm') return refused('invalid evidence type');
  const { data } = body;
  const texts: Record<string, string> = {};
  for (const name of ['quote', 'nonce', 'hash_alg', 'tpm_ek', 'tpm_ak']) {
    const value = data[name];
    if (typeof value !== 'string' || value === '') return refused(`missing parameter '${name}'`);
    texts[name] = value;
  }
  const tpmPolicy = isJsonObject(data.tpm_policy) ? JSON.stringify(data.tpm_policy) : data.tpm_policy;
  for (const name of ['runtime_policy', 'ima_measurement_list', 'mb_policy', 'mb_log'] as const) {
    if (typeof (data[name] ?? '') !== 'string') return refused(`${name} must be text`);
  }
  if (typeof (tpmPolicy ?? '') !== 'string') return refused('tpm_policy must be text or an object');
  const text = (value: Json | undefined) => (typeof value === 'string' && value !== '' ? value : undefined);
  const mbPolicy = text(data.mb_policy);
  const judgesBoot = mbPolicy !== undefined && !isEmptyReference(mbPolicy);
  if (text(tpmPolicy) === undefined && text(data.runtime_policy) === undefined && !judgesBoot) {
    return refused("missing parameter 'tpm_policy', 'runtime_policy' or 'mb_policy': there is nothing to judge by");
  }
  const ak = parseBase64(texts.tpm_ak ?? '');
  if (ak === undefined) return refused('tpm_ak is not base64');
  return good({
    quote: texts.quote ?? '',
    nonce: texts.nonce ?? '',
    hashAlg: texts.hash_alg ?? '',
    ak,
    tpmPolicy: text(tpmPolicy),
    runtimePolicy: text(data.runtime_policy),
    imaList: text(data.ima_measurement_list),
    mbPolicy: judgesBoot ? mbPolicy : undefined,
    bootLog: text(data.mb_log),
  });
}

const invalid = (message: string): EvidenceVerdict => ({
  valid: false,
  failures: [{ type: 'qoute_validation.invalid_quote', context: { message } }],
});

const failing = (failures: readonly FailureEvent[]): EvidenceVerdict => ({
  valid: failures.length === 0,
  failures: failures.map(({ eventId, context }) => ({ type: eventId, context })),
});

/** The whole answer to a body of `POST /verify/evidence`, ready to be sent. */
export type EvidenceAnswer = { readonly code: number; readonly json: Uint8Array<ArrayBuffer> };

/**
 * Reads, judges and answers such a body, if its boot needs not be judged first. Pure; takes time with its size, so it is for
 * a thread of its own.
 */
export function answerEvidence(
  body: Uint8Array,
  policies: PolicyCache,
  boot: BootRules,
): EvidenceAnswer | BootUnjudged {
  const answer = (code: number, envelope: unknown) => ({
    code,
    json: Uint8Array.from(Buffer.from(JSON.stringify(envelope))),
  });
  const json = isUtf8(body) ? parseJsonWithin(MOST_JSON_PARTS, body) : undefined;
  const request = decodeEvidenceRequest(json);
  if (!request.ok) return answer(request.problem.code, failure(request.problem.code, request.problem.status));
  const verdict = verifyEvidence(request.value, policies, boot);
  if ('question' in verdict) return verdict;
  const { valid, failures } = verdict;
  const warning = passedOver({ rules: boot.rules, text: request.value.mbPolicy });
  const claims = valid && isJsonObject(json) ? json.data : {};
  return answer(200, success({ valid, claims, failures, ...(warning && { warnings: [warning] }) }));
}

/** Judges evidence by what came with it. Pure; takes time with the length of the list. */
export function verifyEvidence(
  request: EvidenceRequest,
  policies: PolicyCache,
  boot: BootRules,
): EvidenceVerdict | BootUnjudged {
  const { hashAlg } = request;
  if (!isHashAlgorithm(hashAlg)) return invalid(`hash_alg '${hashAlg}' is unknown`);
  const ak = readAk(request.ak);
  if (typeof ak === 'string') return invalid(ak);
  const [problem] = akProblems(ak);
  if (problem !== undefined) return invalid(`tpm_ak is not an attestation key: ${describeKeyProblem(problem)}`);
  const verified = verifyQuote({ text: request.quote, ak, hashAlg, nonce: Buffer.from(request.nonce) });
  if (!verified.ok) return failing([failureEvent(verified.failure)]);
  const { quote } = verified;

  const events: FailureEvent[] = [];
  if (request.tpmPolicy !== undefined) {
    const policy = decodeTpmPolicy(request.tpmPolicy);
    if (!policy.ok) return invalid(`tpm_policy: ${policy.problem[0]}`);
    events.push(...appraisePcrs(quote, policy.value).map(failureEvent));
  }
  if (request.mbPolicy !== undefined) {
    const { rules, pcrs, verdict } = boot;
    const text = request.mbPolicy;
    const reference = { rules, text, checksum: referenceChecksum(rules, text), edition: '' };
    const found = appraiseBoot(request.bootLog, quote, { reference, pcrs, verdict, evaluate: 'once' }, undefined);
    if ('question' in found) return { kind: 'boot_unjudged', question: found.question };
    events.push(...found.failures.map(failureEvent));
  }
  if (request.runtimePolicy !== undefined) {
    const policy = policies.decode(request.runtimePolicy);
    if (!policy.ok) return invalid(`runtime_policy: ${policy.problem[0].message}`);
    const quotedPcr = quote.pcrs.get(IMA_PCR);
    if (quotedPcr === undefined) events.push(failureEvent({ kind: 'pcrs_missing', pcrs: [IMA_PCR] }));
    else if (request.imaList === undefined) events.push(failureEvent({ kind: 'ima_list_missing' }));
    else {
      const { failures, failureCount, unsettled } = appraiseRuntimeIntegrity({
        list: request.imaList,
        firstEntry: 0,
        bank: quote.bank,
        quotedPcr,
        policy: policy.value,
        bootAggregates: quotedBootAggregates(quote),
        violations: 'accept',
      });
      events.push(...withMoreFailures(failures.map(failureEvent), failureCount - failures.length));
      // There is no next time.
      events.push(...unsettled.map(failureEvent));
    }
  }
  return failing(events);
}

function readAk(bytes: Uint8Array): TpmtPublic | string {
  try {
    return decodePublic(bytes);
  } catch (error) {
    if (error instanceof DecodeError || error instanceof TpmKeyError)
      return `tpm_ak is not a TPM2B_PUBLIC: ${error.message}`;
    throw error;
  }
}
