/** A digest by the name of its hash, as `{"sha256": "0x1f..."}`, lower case; of several banks where machines quote several. */
export type DigestJson = { readonly [algorithm: string]: string };

/** An entry of a signature database. `SignatureData` is a certificate (DER) or a hash: `0x` and lower-case hex. */
export type SignatureJson = { readonly SignatureOwner: string; readonly SignatureData: string };

/** What let an image start, as PCR 7 has it. Old shim logs no `SignatureOwner`. */
export type AuthorityJson = {
  readonly variable: AuthorityVariable;
  readonly SignatureOwner?: string;
  readonly SignatureData: string;
};

/** The lists that signers are in: of the firmware, of shim's vendor, shim's own certificate, of the machine's owner. */
export const AUTHORITY_VARIABLES = ['db', 'vendor_db', 'Shim', 'MokListRT'] as const;
export type AuthorityVariable = (typeof AUTHORITY_VARIABLES)[number];

export type FirmwareJson = {
  /** EV_S_CRTM_VERSION. Left out where the firmware has no such event. */
  readonly scrtm?: DigestJson;
  /** EV_EFI_PLATFORM_FIRMWARE_BLOB and _BLOB2, all of them in their order. */
  readonly platform_firmware: readonly DigestJson[];
};

export const FILE_ALGORITHMS = ['sha256', 'sha384', 'sha512'] as const;
export type FileAlgorithm = (typeof FILE_ALGORITHMS)[number];

/** The members that kernels have had from the start: digests of images (Authenticode) and of files (plain). */
type KernelFiles = {
  readonly [Member in
    | `${'shim' | 'grub' | 'kernel'}_authcode_${FileAlgorithm}`
    | `${'vmlinuz' | 'initrd'}_plain_${FileAlgorithm}`]?: string;
};

/** One way to boot, from the first image that the firmware starts to the command line of the kernel. */
export type StrictKernelJson = KernelFiles & {
  /**
   * In place of shim, grub and kernel, for other chains than shim, GRUB, kernel: every image of PCR 4 that is not in
   * `digests`, in order, by digest or `signed`: by whoever `authorities` names.
   */
  readonly images?: readonly (DigestJson | 'signed')[];
  /** Python regular expression that matches the whole command line, of GRUB (PCR 8) or systemd (PCR 12). */
  readonly kernel_cmdline?: string;
  /** The load options that Linux measured (PCR 9), where nobody logs them as text. */
  readonly load_options?: DigestJson;
  /** The command line is a section of the unified kernel image, and nobody passes another one. */
  readonly cmdline_in_image?: boolean;
  /** By PCR, 8, 9, 11, 12 or 13: events that this boot, and only this one, has; each at least once. */
  readonly digests?: { readonly [pcr: string]: readonly DigestJson[] };
};

/** How the entries of a database that a boot has have to be to those of the reference state. */
export type DatabaseRule = 'exact' | 'subset' | 'superset';
export type DatabaseName = 'pk' | 'kek' | 'db' | 'dbx';

/** Events that may be there without being listed, because they differ from machine to machine. */
export const UNLISTED_KINDS = [
  /** PCRs 1 and 5: BootOrder and Boot####, whatever they say, where their digest covers it. */
  'boot_variables',
  /** PCR 1, before its separator: tables, settings and microcode. */
  'firmware_tables',
  /** PCR 2, before its separator: drivers of plugged-in cards. */
  'option_roms',
  /** PCR 5: the partition table. */
  'gpt',
  /** PCR 11: sections of a unified kernel image that is accepted as `signed`. */
  'unified_kernel_sections',
] as const;
export type UnlistedKind = (typeof UNLISTED_KINDS)[number];

/**
 * The reference state of `strict` as JSON: that of `example`, which verifiers of every version read, and more. Every event
 * of PCRs 0 to 9 and 11 to 14 has to be told of somewhere in it.
 */
export type StrictReferenceJson = {
  /** False says that Secure Boot is off; on if not given. */
  readonly has_secureboot?: boolean;
  readonly scrtm_and_bios: readonly FirmwareJson[];
  readonly pk: readonly SignatureJson[];
  readonly kek: readonly SignatureJson[];
  readonly db: readonly SignatureJson[];
  readonly dbx: readonly SignatureJson[];
  readonly vendor_db?: readonly SignatureJson[];
  readonly mokdig: readonly DigestJson[];
  readonly mokxdig: readonly DigestJson[];
  readonly kernels: readonly StrictKernelJson[];
  /** By PCR: further events that are known. */
  readonly digests?: { readonly [pcr: string]: readonly DigestJson[] };
  /** `subset` for pk, kek and db, `superset` for dbx, where not given. */
  readonly database_rules?: { readonly [Name in DatabaseName]?: DatabaseRule };
  /** If given, the only ones by which images may start. */
  readonly authorities?: readonly AuthorityJson[];
  /** The least SbatLevel, in its own format: `sbat,1,2025021800\nshim,4\ngrub,5\n`. */
  readonly sbat_level?: string;
  /** Python regular expressions, each for the whole of a command of GRUB. */
  readonly grub_commands?: readonly string[];
  readonly unlisted?: readonly UnlistedKind[];
  /** `required` if not given: a machine that says `DMA Protection Disabled` is refused. */
  readonly dma_protection?: 'required' | 'optional';
  /** `required` if not given: PCR 5 and the log end with a successful ExitBootServices. */
  readonly exit_boot_services?: 'required' | 'optional';
};

/** What `example` reads of a reference state; what else is in it, it passes over. `strict` reads these, and more. */
export const EXAMPLE_MEMBERS = [
  'has_secureboot',
  'scrtm_and_bios',
  'pk',
  'kek',
  'db',
  'dbx',
  'vendor_db',
  'mokdig',
  'mokxdig',
  'kernels',
  'digests',
] as const satisfies readonly (keyof StrictReferenceJson)[];
