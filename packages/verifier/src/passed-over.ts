import { type BootReference, referenceJson } from '@keylime/appraisal/boot-verdict';
import { membersPassedOver } from '@keylime/measured-boot/members-passed-over';

const MOST_SHOWN_MEMBERS = 10;

/** What the policy of the settings does not look at in a reference state that names none, in words; `undefined`: nothing. */
export function passedOver(reference: Pick<BootReference, 'rules' | 'text'>): string | undefined {
  const { rules } = reference;
  const members = membersPassedOver(rules, referenceJson(reference));
  if (members.length === 0) return undefined;
  const what =
    rules === 'accept-all'
      ? 'at nothing of it: every boot passes whose log leads to the quoted PCRs'
      : `at all but ${members.slice(0, MOST_SHOWN_MEMBERS).join(', ')}`;
  return `The reference state names no policy, so ${rules} of measured_boot_policy_name judges by it, which looks ${what}.`;
}
