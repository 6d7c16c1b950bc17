import type { KeyObject } from 'node:crypto';
import { parseJson } from '@keylime/core/json';
import type { NonEmpty } from '@keylime/core/non-empty';
import { isEnvelope, parseEnvelope, parsePolicyKey, verifyEnvelope } from '@keylime/policies/dsse';
import { policyWarnings } from '@keylime/policies/policy-warnings';
import { decodeStoredPolicyInSteps, type PolicyProblem } from '@keylime/policies/runtime-policy';
import type { Log } from '@keylime/service/log';
import { runStepsInTurns } from '@keylime/service/steps-in-turns';
import type { SignatureSettings } from './policy-signature.ts';
import type { StoredPolicy } from './policy-store.ts';

/** Why a submitted policy is not taken: the status code and text of the answer (03 section 5.2 of the reference). */
export type PolicyRefusal = { readonly code: 400 | 401; readonly status: string };

/** How submitted policies are judged. */
export type SubmissionSettings = SignatureSettings & {
  /** Hears of what is allowed, but hardly meant. */
  readonly log: Pick<Log, 'warn'>;
};

const NO_KEY = 'Runtime policy signature verification required but no key was given!';
const BAD_SIGNATURE = 'Runtime policy failed DSSE signature verification!';

/**
 * The policy of `text`, a policy or the DSSE envelope around one, ready to be stored under `name`, or why not. A signature
 * that can be checked must be right even where none is required. Nothing that does not decode is ever stored. Decoding takes
 * turns with what else is to do.
 */
export async function acceptPolicy(
  name: string,
  { text, keyPem }: { readonly text: string; readonly keyPem: string | undefined },
  settings: SubmissionSettings,
): Promise<StoredPolicy | PolicyRefusal> {
  const json = parseJson(text);
  if (json === undefined) return { code: 400, status: 'Runtime policy is not valid JSON!' };
  const signer = isEnvelope(json) ? signerOf(text, keyPem, settings) : unsignedRefusal(keyPem, settings);
  if (signer !== undefined && isRefusal(signer)) return signer;
  const decoded = await runStepsInTurns(decodeStoredPolicyInSteps(text, json));
  if (!decoded.ok) return { code: 400, status: refusalText(decoded.problem) };
  for (const warning of policyWarnings(decoded.value)) settings.log.warn(warning, { policy: name });
  const { checksum, generator } = decoded.value;
  return { name, text, checksum, generator, signature_key: signer === undefined ? null : pemOf(signer) };
}

function unsignedRefusal(keyPem: string | undefined, settings: SubmissionSettings): PolicyRefusal | undefined {
  if (settings.requireSignature) return { code: 401, status: NO_KEY };
  // Whoever sends a key believes that a signature will be checked.
  return keyPem === undefined ? undefined : { code: 400, status: 'Runtime policy is not signed!' };
}

/** The key that the policy is signed by; `undefined` where nobody asks. */
function signerOf(
  text: string,
  keyPem: string | undefined,
  { requireSignature, pinnedKeys }: SubmissionSettings,
): KeyObject | PolicyRefusal | undefined {
  const envelope = parseEnvelope(text);
  if (!envelope.ok) return { code: 400, status: `Runtime policy is malformatted: DSSE envelope: ${envelope.problem}` };
  const key = keyPem === undefined ? undefined : parsePolicyKey(keyPem);
  if (key?.ok === false) return { code: 400, status: `Key of the runtime policy cannot be used: ${key.problem}` };
  if (pinnedKeys.length === 0 && key === undefined) return requireSignature ? { code: 401, status: NO_KEY } : undefined;
  const candidates = pinnedKeys.length > 0 || key === undefined ? pinnedKeys : [key.value];
  const signer = candidates.find((one) => verifyEnvelope(envelope.value, [one]));
  return signer ?? { code: 401, status: BAD_SIGNATURE };
}

const pemOf = (key: KeyObject): string => key.export({ format: 'pem', type: 'spki' }).toString();

function refusalText(problems: NonEmpty<PolicyProblem>): string {
  const [first, ...more] = problems;
  const others = more.length === 0 ? '' : ` (and ${more.length} more problems)`;
  const where = first.path.length === 0 ? '' : ` at ${first.path.join('.')}`;
  return first.kind === 'not_json'
    ? first.message
    : `Runtime policy is malformatted: ${first.message}${where}${others}`;
}

export const isRefusal = (result: object): result is PolicyRefusal => 'code' in result;
