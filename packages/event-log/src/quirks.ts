/**
 * What firmware and boot loaders do to event logs that no specification says, and that the decoder takes as it is. An
 * event carries the names of the quirks that were needed to read it. One test each in quirks.test.ts.
 */
export const QUIRKS = {
  legacy_log_starts_with_no_action:
    'A SHA-1 log whose first record is an EV_NO_ACTION that is no Spec ID event: an ordinary record (GCE test logs).',
  no_action_without_pcr: 'EV_NO_ACTION with PCR index 0xffffffff (every Windows log): a remark, it extends nothing.',
  vendor_event_type: 'An event type of no specification (0x8401 on Lenovo laptops, 0x40e on Intel servers).',
  bank_left_out: 'A record without a digest for a bank of the header (operating system events of Windows).',
  no_digests: 'A record without any digest: it extends nothing.',
  spec_id_trailing_bytes: 'Bytes behind vendorInfo in the Spec ID event.',
  uintn_of_other_size: 'Structures with an UINTN of another size than the Spec ID event says.',
  shim_authority_without_owner:
    'Old shim: EV_EFI_VARIABLE_AUTHORITY with a certificate but no SignatureOwner, and 6 bytes without meaning behind it.',
  shim_authority_digest_without_last_byte:
    'Old shim: the digest of an authority leaves the last byte of the event out.',
  image_load_trailing_bytes:
    'Shim: 8 or 9 bytes without meaning behind the device path of an image, or in place of one.',
  shim_stray_byte: 'Old shim: a byte behind the NUL of a variable name in an EV_IPL (`MokList\\0` AF).',
  boot_variable_digest_of_value: 'EV_EFI_VARIABLE_BOOT whose digest covers the value only, not its name (edk2, most).',
  config_variable_digest_of_value:
    'EV_EFI_VARIABLE_DRIVER_CONFIG whose digest covers the value only, not its name (TPM 1.2 firmware).',
  secure_boot_empty: 'The variable SecureBoot without a value: off.',
  crtm_contents_text: 'EV_S_CRTM_CONTENTS with text in place of address and length (`Boot Guard Measured S-CRTM`).',
  crtm_version_digest_mismatch: 'EV_S_CRTM_VERSION whose digest is not that of its data (Dell servers).',
  hcrtm_text: 'EV_EFI_HCRTM_EVENT with other data than `HCRTM`.',
  grub_old_prefix: 'Patched GRUB of Fedora and RHEL: `grub_cmd ` and `grub_kernel_cmdline ` without a colon.',
  grub_digest_with_nul: 'Patched GRUB of Fedora and RHEL: the digest covers the NUL behind the text.',
  systemd_boot_digest_with_nul: 'systemd-boot before 251: the digest covers one NUL more than the event has.',
  not_utf8: 'Text that is not UTF-8: taken byte for byte as Latin-1.',
  separator_with_other_value: 'EV_SEPARATOR that is neither 00000000 nor ffffffff; 01000000 tells a firmware error.',
  exit_boot_services_not_logged:
    'Firmware that extends PCR 5 for ExitBootServices but does not log it; told by the comparison with the quote.',
} as const;

export type Quirk = keyof typeof QUIRKS;
