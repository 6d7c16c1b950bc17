/** One command-line option. The table below is the only place that knows them: the parser and `--help` both read it. */
export type Option = {
  /** Spellings, the first short one first; `-tp` is one option, not `-t p`. */
  readonly flags: readonly string[];
  /** `value`: one text, the last one counts. `list`: repeatable. `flag`: no text. */
  readonly kind: 'value' | 'list' | 'flag';
  readonly metavar?: string;
  readonly help: string;
  /** Found by its full spelling only, so that it does not make a prefix of an older option ambiguous. */
  readonly exactOnly?: true;
  /** Reported by `refuseUnsupported` when given; the text says what the option does. */
  readonly unsupported?: string;
};

const value = (flags: readonly string[], metavar: string, help: string, extras: Partial<Option> = {}): Option => ({
  flags,
  kind: 'value',
  metavar,
  help,
  ...extras,
});

const keyOption = (name: string, help: string, ...aliases: readonly string[]): Option & { kind: 'list' } => ({
  flags: [`--signature-verification-key${name}`, ...aliases],
  kind: 'list',
  metavar: 'KEY',
  help: `deprecated; ${help}`,
});

/** Every option by the name that the code uses (spec 07 section 3.2). The order is that of the help text. */
export const OPTIONS = {
  command: value(['-c', '--command'], 'COMMAND', 'what to do, one of the commands below; add when left out'),
  uuid: value(['-u', '--uuid'], 'ID', 'id of the agent'),
  pushModel: {
    flags: ['--push-model'],
    kind: 'flag',
    help: 'the agent sends its evidence by itself: make no request to it',
  },
  agentHost: value(['-t', '--targethost'], 'HOST', 'address of the agent; the registrar knows it when left out'),
  agentPort: value(['-tp', '--targetport'], 'PORT', 'port of the agent; the registrar knows it when left out'),
  verifierAgentHost: value(
    ['--cv_targethost'],
    'HOST',
    'address of the agent for the verifier; that of -t when left out',
  ),
  registrarHost: value(['-r', '--registrarhost'], 'HOST', 'address of the registrar; tenant.conf when left out'),
  registrarPort: value(['-rp', '--registrarport'], 'PORT', 'HTTPS port of the registrar; tenant.conf when left out'),
  verifierHost: value(['-v', '--cv'], 'HOST', 'address of the verifier; tenant.conf when left out'),
  verifierPort: value(['-vp', '--cvport'], 'PORT', 'port of the verifier; tenant.conf when left out'),
  verifierId: value(['-vi', '--cvid'], 'ID', 'cvlist, bulkinfo: only agents of the verifier with this id'),
  noVerifierCheck: {
    flags: ['-nvc', '--no-verifier-check'],
    kind: 'flag',
    help: 'delete, update, reactivate: do not look whether the verifier has the agent first',
  },
  file: value(['-f', '--file'], 'FILE', 'payload to encrypt and deliver'),
  keyFile: value(['-k', '--key'], 'FILE', 'keys of an encrypted payload'),
  payload: value(['-p', '--payload'], 'FILE', 'encrypted payload, with -k'),
  caDir: value(['--cert'], 'DIR', 'deliver a certificate package of the CA in this folder; default: the folder ca'),
  includeDir: value(['--include'], 'DIR', 'more files for the package, with --cert'),
  verify: {
    flags: ['--verify'],
    kind: 'flag',
    help: 'wait until the agent proves that it holds the payload key',
  },
  runtimePolicy: value(['--runtime-policy'], 'FILE', 'runtime policy, plain or signed (DSSE)'),
  runtimePolicyUrl: value(['--runtime-policy-url'], 'URL', 'where to load it from; needs --runtime-policy-checksum'),
  runtimePolicyChecksum: value(['--runtime-policy-checksum'], 'HEX', 'SHA-256 that the file must have'),
  runtimePolicySigKey: value(['--runtime-policy-sig-key'], 'FILE', 'PEM public key that must have signed the policy'),
  runtimePolicyName: value(['--runtime-policy-name'], 'NAME', 'name of a runtime policy on the verifier'),
  mbPolicy: value(
    ['--mb-policy', '--mb_refstate'],
    'FILE',
    'measured-boot policy: the reference state of a boot; default: the file of mb_refstate in tenant.conf',
  ),
  mbPolicyName: value(['--mb-policy-name'], 'NAME', 'name of a measured-boot policy on the verifier'),
  mbPolicyRules: value(
    ['--mb-policy-rules'],
    'NAME',
    'the policy of the verifier that judges by --mb-policy, such as strict; that of its settings when left out',
    { exactOnly: true },
  ),
  imaExtendMode: value(
    ['--ima-extend-mode'],
    'MODE',
    'how its kernel extends PCR 10: bank, or padded_sha1 for Linux before 5.8; as the verifier is set when left out',
    { exactOnly: true },
  ),
  tpmPolicy: value(
    ['--tpm_policy'],
    'JSON',
    'static PCR values, such as {"22": "0000…"} or {"22": ["0000…", "1111…"]}',
  ),
  agentApiVersion: value(
    ['--agent-api-version'],
    'X.Y',
    'version of the API to speak with the agent; negotiated when left out',
  ),
  supportedVersion: value(['--supported-version'], 'X.Y', 'deprecated name of --agent-api-version'),
  allowlist: value(['--allowlist'], 'FILE', 'deprecated: runtime policy, or list of digests and paths to make one of'),
  allowlistUrl: value(['--allowlist-url'], 'URL', 'deprecated', {
    unsupported: 'loading an allowlist without a checksum',
  }),
  allowlistName: value(['--allowlist-name'], 'NAME', 'deprecated name of --runtime-policy-name'),
  exclude: value(['--exclude'], 'FILE', 'deprecated; exclude list of an allowlist'),
  signatureKeys: keyOption('', 'PEM or DER key of IMA file signatures', '--sign_verification_key'),
  signatureKeySigs: keyOption('-sig', 'detached signature of the key file'),
  signatureKeySigKeys: keyOption('-sig-key', 'key that made the detached signature'),
  signatureKeyUrls: keyOption('-url', 'where to load a key from'),
  signatureKeySigUrls: keyOption('-sig-url', 'where to load its detached signature from'),
  signatureKeySigUrlKeys: keyOption('-sig-url-key', 'key that made that signature'),
  notification: {
    flags: ['--notification'],
    kind: 'list',
    metavar: 'N',
    exactOnly: true,
    help: 'replay: number of a notification that deadletters shows, or all',
  },
  noHostnameCheck: {
    flags: ['--no-hostname-check'],
    kind: 'flag',
    exactOnly: true,
    help: 'accept certificates of verifier and registrar that do not name the address used (their CA is still checked)',
  },
  help: { flags: ['-h', '--help'], kind: 'flag', help: 'print this text' },
  version: { flags: ['--version'], kind: 'flag', exactOnly: true, help: 'print the version' },
} as const satisfies { readonly [name: string]: Option };

export type OptionName = keyof typeof OPTIONS;

type ValueOf<O extends Option> = O['kind'] extends 'flag'
  ? boolean
  : O['kind'] extends 'list'
    ? readonly string[]
    : string | undefined;

/** What the command line said: `undefined`, `false` or an empty list for what it did not. */
export type Arguments = { readonly [Name in OptionName]: ValueOf<(typeof OPTIONS)[Name]> };
