import { readFileSync } from 'node:fs';
import { codeOf } from '@keylime/core/coded-error';
import { askPassword, PasswordError } from './ask-password.ts';
import type { Log } from './log.ts';

export type CaPasswordSettings = { readonly password: string; readonly password_file: string };

const DEFAULT = 'default';
/** [compat] Scripts of the field wait for this text. */
const QUESTION = 'Please enter the password to decrypt your keystore: ';

/**
 * The password of the CA's key store for a program that a person runs (spec 07 section 6.2): `password_file`, else
 * `password`, else what is typed. [compat] `default` is a question here, while it is the password of the services.
 * @throws PasswordError
 */
export async function askCaPassword(
  settings: CaPasswordSettings,
  log: Log,
  ask: (question: string) => Promise<string> = askPassword,
): Promise<string> {
  if (settings.password_file !== '') return readPasswordFile(settings.password_file);
  if (settings.password !== DEFAULT && settings.password !== '') return settings.password;
  log.warn(
    "The 'default' password option from CA configuration file cannot be used with keylime CLI (keylime_tenant or keylime_ca)",
  );
  const typed = await ask(QUESTION);
  if (typed === '') throw new PasswordError('You must specify a password!');
  return typed;
}

/** The password of the CA's key store for a service, which asks nobody. @throws PasswordError */
export const serviceCaPassword = (settings: CaPasswordSettings): string =>
  settings.password_file === '' ? settings.password : readPasswordFile(settings.password_file);

/** First line of a file. @throws PasswordError */
export function readPasswordFile(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    const why = codeOf(cause) ?? cause;
    throw new PasswordError(`Cannot read the password file ${file} (${why}).`, { cause });
  }
  const [password = ''] = text.split(/\r?\n/);
  if (password === '') throw new PasswordError(`The first line of the password file ${file} is empty.`);
  return password;
}
