import { readFile } from 'node:fs/promises';

/** How a client proves to NATS who it is. */
export type NatsLogin =
  /** Text of a `.creds` file (JWT and NKey seed), or the seed of an NKey alone: neither leaves this machine. */
  | { readonly kind: 'credentials'; readonly text: string }
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'token'; readonly token: string };

export type NatsLoginSettings = {
  /** Absolute path; `undefined` for none. */
  readonly credentialsFile: string | undefined;
  readonly user: string;
  readonly password: string;
  readonly token: string;
};

/** What the settings name, read anew each time: credentials are changed while programs run. `undefined`: nothing. */
export async function readNatsLogin(settings: NatsLoginSettings): Promise<NatsLogin | undefined> {
  const { credentialsFile, user, password, token } = settings;
  if (credentialsFile !== undefined) return { kind: 'credentials', text: await readFile(credentialsFile, 'utf8') };
  if (user !== '') return { kind: 'password', user, password };
  return token === '' ? undefined : { kind: 'token', token };
}
