import { access, constants } from 'node:fs/promises';
import path from 'node:path';
import { caOptionsOf } from '@keylime/pki/ca-options';
import type { CaFolder } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { PasswordError } from '@keylime/service/ask-password';
import { askCaPassword } from '@keylime/service/ca-password';
import { type CaConfig, ConfigError, type ConfigSource, loadCaConfig } from '@keylime/service/config';
import { ListenError } from '@keylime/service/http-listen';
import { logNotes, openLog } from '@keylime/service/log';
import { type Arguments, HELP, readArguments, UsageError } from './arguments.ts';
import { COMMANDS } from './commands.ts';

/** The process around the command. */
export type Environment = {
  readonly source: ConfigSource;
  readonly stdout: { readonly write: (text: string) => unknown };
  readonly stderr: { readonly write: (text: string) => unknown };
  readonly version: string;
  /** Resolves when `listen` is to end. */
  readonly stopped: () => Promise<void>;
  readonly now?: () => Date;
  /** Asks the operator for a password; the terminal when left out. */
  readonly askPassword?: (question: string) => Promise<string>;
};

/** Runs one command line; the exit code (spec 07 section 6.1). Throws only for our mistakes. */
export async function run(argv: readonly string[], environment: Environment): Promise<number> {
  try {
    const given = readArguments(argv);
    if (given === 'help' || given === 'version') {
      environment.stdout.write(given === 'help' ? HELP : `keylime_ca ${environment.version}\n`);
      return 0;
    }
    return await runCommand(given, environment);
  } catch (error) {
    if (error instanceof UsageError) {
      environment.stderr.write(`keylime_ca: error: ${error.message}\nkeylime_ca --help says more.\n`);
      return error.exitCode;
    }
    if (!isForOperator(error)) throw error;
    environment.stderr.write(`keylime_ca: ${error.message}\n`);
    return 1;
  }
}

async function runCommand(given: Arguments, environment: Environment): Promise<number> {
  const command = Object.hasOwn(COMMANDS, given.command) ? COMMANDS[given.command] : undefined;
  if (command === undefined) throw new UsageError(255, `Invalid command: ${given.command}`);
  const { config, notes } = loadCaConfig(environment.source);
  // What shows something writes that alone to stdout.
  const destination = ['list', 'status'].includes(given.command) ? environment.stderr : environment.stdout;
  const log = openLog({ name: 'keylime.ca-util', ...config.log, destination });
  logNotes(log, notes);
  const dir = await folderOf(given, config);
  const options = caOptionsOf({ ...config, cert_key_type: given.keyType ?? config.cert_key_type });
  const folder: CaFolder = { dir, options, ...(environment.now ? { now: environment.now } : {}) };
  const password_file = given.passwordFile ?? config.password_file;
  return command({
    given,
    folder,
    open: async () => ({
      ...folder,
      password: await askCaPassword({ ...config, password_file }, log, environment.askPassword),
    }),
    crlUrl: config.cert_crl_dist,
    log,
    print: (text) => void environment.stdout.write(text),
    stopped: environment.stopped,
  });
}

async function folderOf({ dir }: Arguments, { workDir }: CaConfig): Promise<string> {
  if (dir !== undefined) return path.resolve(dir);
  try {
    await access(workDir, constants.R_OK | constants.W_OK);
  } catch {
    throw new UsageError(
      255,
      `If you don't specify a working directory, this process must be run as a user with access to ${workDir}: name another one with -d`,
    );
  }
  return path.join(workDir, 'ca');
}

/** What an operator can mend is told in one line; everything else is a mistake of ours. */
function isForOperator(error: unknown): error is Error {
  const isKnown = [PkiError, PasswordError, ConfigError, ListenError].some((kind) => error instanceof kind);
  return isKnown || (error instanceof Error && 'syscall' in error);
}
