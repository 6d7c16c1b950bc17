import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execute, programOf } from './process.ts';

/** What machines get once they are attested: a certificate, a secret with a script, and an action for revocations. */
export type Payload = {
  /** `--cert` and `--include` of `keylime_tenant`. */
  readonly caDir: string;
  readonly includeDir: string;
  /** What its script installs. */
  readonly secret: string;
};

const SECRET = 'secret';
/** What the script of the payload makes of it. */
const INSTALLED = 'installed';
/** Files that the action writes into the agent's work directory, one for each revocation. */
export const REVOCATION_NOTE = /^revoked-.*\.json$/;

const SCRIPT = `#!/bin/sh
# Runs on the machine as soon as its payload is decrypted.
cp ${SECRET} ${INSTALLED}.new && mv ${INSTALLED}.new ${INSTALLED}
`;

const ACTION = `#!/bin/sh
# Runs when a machine is revoked; $1 is the notification, whose signature has been checked.
note=$(mktemp ./revoked-XXXXXX) && cp "$1" "$note" && mv "$note" "$note.json"
`;

/** For every program that opens the CA in `folder`. */
export const caEnvironment = (folder: string): Readonly<Record<string, string>> => ({
  KEYLIME_CA_CONFIG: join(folder, 'ca.conf'),
});

/** Makes in `folder` a CA with certificates for `machines`, and the files of their payload. */
export async function preparePayload(folder: string, machines: readonly string[]): Promise<Payload> {
  const caDir = join(folder, 'ca');
  const includeDir = join(folder, 'payload');
  await mkdir(includeDir, { recursive: true, mode: 0o700 });
  const secret = randomBytes(16).toString('hex');
  const file = async (path: string, text: string, mode = 0o600) => {
    await writeFile(path, text, { mode });
    await chmod(path, mode);
  };
  await file(join(includeDir, SECRET), secret);
  await file(join(includeDir, 'autorun.sh'), SCRIPT, 0o700);
  await file(join(includeDir, 'action_list'), 'local_action_note\n');
  await file(join(includeDir, 'local_action_note'), ACTION, 0o700);
  await file(join(folder, 'ca-password'), randomBytes(24).toString('base64'));
  await file(join(folder, 'ca.conf'), `[ca]\npassword_file = ${join(folder, 'ca-password')}\n`);
  for (const args of [['init'], ...machines.map((name) => ['create', '-n', name])]) {
    const made = await execute(process.execPath, [programOf('ca'), ...args, '-d', caDir], caEnvironment(folder));
    if (made.code !== 0) throw new Error(`keylime_ca ${args.join(' ')} failed:\n${made.output}`);
  }
  return { caDir, includeDir, secret };
}

const unzipped = (keylimeDir: string, file: string): string => join(keylimeDir, 'secure', 'unzipped', file);

/** Whether the agent that works in `keylimeDir` has the payload, decrypted. */
export const isDecrypted = async (keylimeDir: string, { secret }: Payload): Promise<boolean> =>
  (await readIfThere(unzipped(keylimeDir, SECRET))) === secret;

/** Whether the script of the payload has run there. */
export const isInstalled = async (keylimeDir: string, { secret }: Payload): Promise<boolean> =>
  (await readIfThere(unzipped(keylimeDir, INSTALLED))) === secret;

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
