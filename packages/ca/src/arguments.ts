import { parseArgs } from 'node:util';
import { REVOCATION_REASONS, type RevocationReason } from '@keylime/pki/crl';
import type { Purpose } from '@keylime/pki/issue';
import { KEY_TYPES, type KeyType } from '@keylime/pki/private-key';

/** The command line cannot be understood; the message is for the person who typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  /** [compat] 255 where the existing program ends so: an unknown command, a missing name or number. */
  readonly exitCode: 2 | 255;
  constructor(exitCode: 2 | 255, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

export type Arguments = {
  readonly command: string;
  readonly name: string | undefined;
  readonly dir: string | undefined;
  readonly insecure: boolean;
  readonly file: string;
  readonly serial: string | undefined;
  readonly force: boolean;
  readonly purposes: readonly Purpose[];
  readonly altNames: readonly string[];
  readonly keyType: KeyType | undefined;
  readonly reason: RevocationReason;
  readonly passwordFile: string | undefined;
  readonly ip: string | undefined;
  readonly port: number | undefined;
  readonly ca: boolean;
  readonly all: boolean;
  readonly json: boolean;
};

const OPTIONS = {
  command: { type: 'string', short: 'c' },
  name: { type: 'string', short: 'n' },
  dir: { type: 'string', short: 'd' },
  insecure: { type: 'boolean', short: 'i' },
  file: { type: 'string', short: 'f' },
  serial: { type: 'string', short: 's' },
  force: { type: 'boolean' },
  usage: { type: 'string' },
  san: { type: 'string', multiple: true },
  'key-type': { type: 'string' },
  reason: { type: 'string' },
  'password-file': { type: 'string' },
  ip: { type: 'string' },
  port: { type: 'string' },
  ca: { type: 'boolean' },
  all: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

const USAGES: { readonly [usage: string]: readonly Purpose[] } = {
  both: ['serverAuth', 'clientAuth'],
  server: ['serverAuth'],
  client: ['clientAuth'],
  none: [],
};

/** Reads the arguments after the program's name: the command stands first, or after `-c`. @throws UsageError */
export function readArguments(argv: readonly string[]): Arguments | 'help' | 'version' {
  const { values, positionals } = parse(argv);
  if (values.help) return 'help';
  if (values.version) return 'version';
  const [first, ...more] = positionals;
  if (more.length > 0 || (first !== undefined && values.command !== undefined)) {
    const surplus = values.command === undefined ? more : positionals;
    throw new UsageError(2, `unrecognized arguments: ${surplus.join(' ')}`);
  }
  const command = values.command ?? first;
  if (command === undefined) throw new UsageError(2, 'the following arguments are required: -c/--command');
  return {
    command,
    name: values.name,
    dir: values.dir,
    insecure: values.insecure ?? false,
    file: values.file ?? 'ca-private.pem',
    serial: values.serial,
    force: values.force ?? false,
    purposes: USAGES[oneOf('--usage', values.usage, Object.keys(USAGES)) ?? 'both'] ?? [],
    altNames: values.san ?? [],
    keyType: oneOf('--key-type', values['key-type'], KEY_TYPES),
    reason: oneOf('--reason', values.reason, Object.keys(REVOCATION_REASONS) as RevocationReason[]) ?? 'unspecified',
    passwordFile: values['password-file'],
    ip: values.ip,
    port: values.port === undefined ? undefined : readPort(values.port),
    ca: values.ca ?? false,
    all: values.all ?? false,
    json: values.json ?? false,
  };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    const isArgumentError =
      error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
    if (!isArgumentError) throw error;
    throw new UsageError(2, error.message);
  }
}

function oneOf<T extends string>(flag: string, text: string | undefined, choices: readonly T[]): T | undefined {
  if (text === undefined) return undefined;
  const found = choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  throw new UsageError(2, `${flag}: "${text}" is not one of ${choices.join(', ')}`);
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw new UsageError(2, `--port: "${text}" is no port number`);
}

export const HELP = `usage: keylime_ca COMMAND [options]        or: keylime_ca -c COMMAND [options]

Certificates for payloads: keylime_tenant --cert makes them too, in the same folder.

commands:
  init                 make a new CA
  create -n NAME       make a key and a certificate
  pkg -n NAME          write NAME-pkg.zip: the certificate, its key, the CA and its CRL
  revoke -n NAME       put every certificate of NAME on the CRL that still holds
  revoke -s SERIAL     put one certificate on the CRL
  listen               serve the CRL over HTTP where certificates say it is (cert_crl_dist), and keep it fresh
  list                 show the certificates; with --all those that ended or were replaced, too
  status               say what ends soon; exit code 1 if something has to be renewed
  renew                renew CRL and certificates that have lived two thirds of their life; -n NAME that one at once;
                       --ca the CA's own certificate, for the same key
  import-priv -s LAST  take the private key of an existing CA into the key store; the next serial number is LAST + 2

options:
  -d, --dir DIR        folder of the CA; ca in the work directory when left out
  -f, --file FILE      import-priv: PEM of the key, not encrypted; ca-private.pem when left out
  --password-file FILE first line is the password of the key store; asked for when nothing says it
  --usage WHAT         create: both (when left out), server, client, none
  --san NAME           create: host name or address, repeatable; NAME of -n when left out
  --key-type TYPE      init, create: rsa, p256, p384, ed25519; cert_key_type of ca.conf when left out
  --reason WHY         revoke: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation,
                       privilegeWithdrawn
  --ip IP, --port PORT listen: another address than that of cert_crl_dist
  --force              init: delete the CA that is there, with all its keys
  -i, --insecure       pkg: no effect, the key in a package is never encrypted
  --json               list, status: JSON
  -h, --help           print this text
  --version            print the version

Settings come from /etc/keylime/ca.conf or the file that KEYLIME_CA_CONFIG names.
exit codes: 0 done; 1 failed; 2 the command line is wrong; 255 unknown command, or a name or number is missing.
`;
