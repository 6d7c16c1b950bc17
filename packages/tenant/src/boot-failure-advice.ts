import type { Json } from '@keylime/core/json';

type Context = { readonly [key: string]: Json };

/** What an operator can do about failures of a boot; the first of the patterns that fits counts. */
export const BOOT_ADVICE: readonly (readonly [event: RegExp, advice: (context: Context) => string])[] = [
  [
    /^measured_boot\.policy_/,
    ({ reason }) => REASON_ADVICE.find(([pattern]) => pattern.test(String(reason)))?.[1] ?? UPDATE_ADVICE,
  ],
  [
    /^measured_boot\.evaluation_timeout$/,
    () =>
      'no firmware writes a log that takes so long: look at it with keylime-policy show event-log; for a verifier without CPU time, measured_boot_timeout',
  ],
  [
    /^measured_boot\.invalid_pcr_(11|12|13|15)$/,
    () =>
      'something extended it after the boot that is logged: systemd does (11 anew after a soft reboot, 13 for extensions, 15 for disks). Reboot, or judge by a policy that does not rely on it (--mb-policy-rules); else the log was changed',
  ],
  [
    /^measured_boot\.invalid_pcr_/,
    () =>
      'the log is not the one of this boot, or was changed: compare measuredboot_ml_path of the agent with the log of the kernel; if they are the same, treat the machine as attacked',
  ],
  [
    /^measured_boot\.parser\.invalid_pcrs_hashes$/,
    () =>
      'let the agent quote a bank that the firmware measures into (tpm_hash_alg), or activate the bank in the firmware',
  ],
  [
    /^measured_boot\.parser\./,
    () =>
      'look at the log on the machine (measuredboot_ml_path of the agent): keylime-policy show event-log tells where it is damaged',
  ],
  [
    /^pcr_validation\.invalid_mb_policy$/,
    () =>
      'make the reference state again (keylime-policy create measured-boot) and store it (updatembpolicy), with the policy that it is for (--mb-policy-rules)',
  ],
  [
    /^pcr_validation\.unused_pcr_(?!10$)/,
    () =>
      'the agent cannot read the log: see its own, measuredboot_ml_path, and whether the machine boots by UEFI with the TPM on and securityfs mounted',
  ],
];

const UPDATE_ADVICE =
  'after an update of firmware, boot loader or kernel, add the new boot to the reference state (keylime-policy create measured-boot -b, or predict before the update; updatembpolicy) and reactivate; if nobody updated it, it was tampered with';

/** By the reason of a violation, where it is not one of an update. */
const REASON_ADVICE: readonly (readonly [reason: RegExp, advice: string])[] = [
  [
    /^policy evaluation failed: /,
    'the policy itself went wrong: mend the module of measured_boot_imports that has it, then reactivate',
  ],
  [/^every_boot_is_refused$/, 'reject-all refuses every boot: name another policy (--mb-policy-rules)'],
  [
    /^bank_not_in_reference$/,
    'make the reference state for the bank that the machine quotes, too: keylime-policy create measured-boot --hash-alg',
  ],
  [
    /^(event_data_not_measured|separator_|event_after_|variable_(after|repeated)|kernel_cmdline_without_command)/,
    'the log says something else than what was measured, or has what no boot writes: treat the machine as attacked, unless its firmware is known for it; then list the event (--list)',
  ],
  [
    /^(secure_boot_off|uefi_debug_mode|dma_protection_disabled)$/,
    'switch it back in the setup of the firmware, find out who changed it, and reboot',
  ],
  [
    /^(authority_unexpected|sbat_level_too_low|sbat_level_missing|signature_missing)$/,
    'an image was let in that should not be, or revocations went back: update shim, boot loader and dbx, or, if the signer is yours, add it to authorities',
  ],
];
