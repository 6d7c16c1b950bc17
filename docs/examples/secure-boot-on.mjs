import { coveredData } from '@keylime/event-log/coverage';

/**
 * A measured-boot policy of an operator: Secure Boot is on, whatever the machine starts. Name this file in
 * `measured_boot_imports` of the verifier, and `secure-boot-on` with the tenant's `--mb-policy-rules`.
 * @type {import('@keylime/measured-boot/policy').MeasuredBootPolicy}
 */
const secureBootOn = {
  name: 'secure-boot-on',

  // The quote has to have these PCRs, and the log has to lead to their values, before `evaluate` is asked.
  pcrs: [7],

  // Called at upload, with the parsed JSON, and before a boot is judged; `undefined` where there is no reference state.
  decodeReference: (json) =>
    json === undefined
      ? { ok: true, value: undefined }
      : { ok: false, problem: [{ path: '', message: 'this policy takes no reference state' }] },

  evaluate(log) {
    // The firmware measures SecureBoot before anything else into PCR 7. Who is root later can extend the PCR, and the log,
    // at the end only: a policy that looked for any such event would believe that one.
    const first = log.events.find(({ pcr }) => pcr === 7);
    if (first === undefined) return [{ reason: 'secure_boot_unknown', pcr: 7, expected: 'an event' }];
    // Only what the digest covers. The type of an event is what the log says; data of this shape has no other meaning.
    const data = coveredData(first);
    const isOn = data?.kind === 'variable' && data.name === 'SecureBoot' && data.data.equals(Buffer.of(1));
    if (isOn) return [];
    const { index, pcr, type } = first;
    return [{ reason: 'secure_boot_off', event: index, pcr, type, expected: 'SecureBoot on' }];
  },
};

/** A module exports a list with at least one policy, by this name. */
export const policies = [secureBootOn];
