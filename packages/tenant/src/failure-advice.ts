import { isJsonObject, type Json } from '@keylime/core/json';
import { BOOT_ADVICE } from './boot-failure-advice.ts';

type Context = { readonly [key: string]: Json };

/** What an operator can do about a failure that came with `context`; the first of the patterns that fits counts. */
const ADVICE: readonly (readonly [event: RegExp, advice: (context: Context) => string])[] = [
  [/^ima\.validation\.ima-ng\.not_in_allowlist$/, unlisted],
  [/^ima\.validation\.ima-ng\.runtime_policy_hash$/, otherDigest],
  [
    /^ima\.validation\.ima_hash$/,
    () =>
      "the list was changed on its way, or its hashes are of another algorithm than the policy's ima.log_hash_alg: that must be the one of the agent's ima_ml_path (sha1 without a suffix)",
  ],
  [
    /^ima\.parser\./,
    ({ message }) =>
      typeof message === 'string' && message.includes('(template_format)')
        ? 'the kernel was booted with an ima_template_fmt= that is not taken: give the digest first, then the name, then the others in their usual order, or use ima_template='
        : 'no kernel prints such a line: look at the list on the machine (ima_ml_path of the agent) for what wrote it',
  ],
  [
    /^ima\.pcr_mismatch$/,
    () =>
      'the list and the TPM do not tell the same. Look for what else extends PCR 10 (a second IMA emulator, a container with the same TPM), a list of another boot, or a kernel before Linux 5.8 (--ima-extend-mode); else the list hides something: reinstall the machine',
  ],
  [
    /^ima\.quote_progress$/,
    () =>
      'the list grows while PCR 10 stands still: something else than the kernel writes the list that the agent reads',
  ],
  [
    /^ima\.validation\.tomtou$/,
    () =>
      'a file was written while it was read or run, so nothing says what it was. Find out which program writes it, leave it out of the IMA policy of the machine (dont_measure), or set tomtou = accept in the verifier',
  ],
  [
    /^ima\.validation\.ima_pcr$/,
    () => 'the IMA policy of the machine measures into another PCR (pcr=): let it use PCR 10',
  ],
  [
    /^ima\.validator\.ima-sig\./,
    () => 'the security.ima attribute of the file is damaged: sign the file again (evmctl ima_sign), or restore it',
  ],
  [
    /^ima\.invalid_key$/,
    () =>
      'a key that IMA cannot use was loaded onto a keyring: find out who loaded it (dmesg, /proc/keys), and use RSA or ECDSA',
  ],
  [
    /^ima\.validation\.dm\./,
    () => 'compare with ima.dm_policy: dmsetup table and dmsetup info on the machine show what is set up now',
  ],
  [
    /^pcr_validation\.unused_pcr_10$/,
    () =>
      'the agent cannot read its list: see its log, ima_ml_path, and whether the kernel was started with an IMA policy (ima_policy=tcb)',
  ],
  [
    /\.policy_not_signed$/,
    () =>
      'sign it (keylime-policy sign runtime), store it (updateruntimepolicy --runtime-policy-sig-key) and reactivate',
  ],
  [
    /\.invalid_ima_entry_nb$/,
    () =>
      'the agent sent another part of the list than was asked for: reactivate; where records were removed from the list, reboot first',
  ],
  ...BOOT_ADVICE,
];

/** Of what is no file, whether its name is in the policy or not. */
function noFile({ policy_member: member, path }: Context): string | undefined {
  if (member === 'keyrings') {
    return `a key was loaded onto keyring ${String(path)}: add its digest to keyrings of the policy if it is yours, or the keyring to ima.ignored_keyrings if its keys do not matter`;
  }
  if (member === 'ima-buf') return 'add the digest of the buffer to ima-buf of the policy, if its content is right';
  if (path === 'boot_aggregate') {
    return 'firmware or boot loader are others than the policy says: leave boot_aggregate out of the policy and judge the boot by a measured-boot policy, or add the new digest after an update';
  }
  return undefined;
}

function otherDigest(context: Context): string {
  const advice = noFile(context);
  if (advice !== undefined) return advice;
  return context.expected_packages === undefined
    ? 'if the file was updated, add its digest to the policy (keylime-policy create runtime, updateruntimepolicy) and reactivate; if nobody updated it, it was replaced'
    : 'if the package was updated, make the policy again from the new packages (updateruntimepolicy) and reactivate; if nobody updated it, it was replaced';
}

function unlisted(context: Context): string {
  const { policy_member: member, listed_for: others, signature } = context;
  const advice = noFile(context);
  if (advice !== undefined) return advice;
  if (member === undefined)
    return 'the list does not begin where a boot begins: see that ima_ml_path is the whole list of this boot';
  if (signature === 'key_unknown') {
    return 'the file is signed, by a key that nobody named: give it with --signature-verification-key or in verification-keys of the policy; or add the file to the policy';
  }
  if (others !== undefined)
    return 'it is a copy of a known file or a known file under another name: see who made it, and add this path if it is right';
  return 'if the file belongs on the machine, add it to the policy (keylime-policy create runtime, updateruntimepolicy) or exclude its directory, and reactivate; if not, find out who put it there';
}

/** What can be done about the failures in a verifier's record, each way out once. */
export function adviceLines(record: Context): readonly string[] {
  const failures = Array.isArray(record.last_failures) ? record.last_failures.filter(isJsonObject) : [];
  const lines = failures.flatMap(({ event_id: event, context }) => {
    const found = typeof event === 'string' ? ADVICE.find(([pattern]) => pattern.test(event)) : undefined;
    return found ? [`${event}: ${found[1](isJsonObject(context) ? context : {})}`] : [];
  });
  return [...new Set(lines)];
}
