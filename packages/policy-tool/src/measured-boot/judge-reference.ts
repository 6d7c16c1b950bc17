import type { HashAlgorithm } from '@keylime/core/digest';
import type { EventLog } from '@keylime/event-log/event';
import { initialPcr, replayBank, startupLocality } from '@keylime/event-log/replay';
import { verifyEventLog } from '@keylime/event-log/verify';
import type { BootViolation, MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import { ToolError } from '../tool-error.ts';
import { problemLine } from './event-row.ts';

/**
 * What `policy` says of the boot of `log` with a reference state, if the machine quotes what the log leads to.
 * @throws ToolError `reference_invalid` if the reference state is none of the policy's
 */
export function judgeReference(
  policy: MeasuredBootPolicy,
  reference: object,
  log: EventLog,
  bank: HashAlgorithm,
): readonly BootViolation[] {
  const decoded = requireReference(policy, JSON.parse(JSON.stringify(reference)), 'What was made');
  const replayed = replayBank(log, bank);
  const locality = startupLocality(log);
  const pcrs = new Map(policy.pcrs.map((pcr) => [pcr, replayed.get(pcr) ?? initialPcr(bank, pcr, locality)]));
  const verified = verifyEventLog(log, { bank, pcrs }, policy.pcrs);
  if (verified.ok) return policy.evaluate(verified.log, decoded);
  const [problem] = log.problems.filter(({ kind }) => kind !== 'data_malformed');
  const what = problem === undefined ? verified.failures[0].kind : problemLine(problem);
  throw new ToolError('log_unsuitable', `The log is damaged (${what}): take it from the machine again`);
}

/** `json` as `policy` reads it. @throws ToolError `reference_invalid`; `name` is that of the file */
export function requireReference(policy: MeasuredBootPolicy, json: unknown, name: string): unknown {
  const decoded = policy.decodeReference(json);
  if (decoded.ok) return decoded.value;
  const problems = decoded.problem.slice(0, 10).map(({ path, message }) => `${path || 'the top'}: ${message}`);
  throw new ToolError(
    'reference_invalid',
    `${name} is no reference state of the policy ${policy.name}: ${problems.join('; ')}`,
  );
}
