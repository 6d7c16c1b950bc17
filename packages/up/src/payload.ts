import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
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
/** Files that the action writes into the agent's work directory, one for each notification. */
const NOTE = /^revoked-.*\.json$/;

const SCRIPT = `#!/bin/sh
# Runs on the machine as soon as its payload is decrypted.
cp ${SECRET} ${INSTALLED}.new && mv ${INSTALLED}.new ${INSTALLED}
`;

const ACTION = `#!/bin/sh
# Runs when a machine is revoked; $1 is the notification, whose signature has been checked.
note=$(mktemp ./revoked-XXXXXX) && cp "$1" "$note" && mv "$note" "$note.json"
`;

export const ACTION_NAME = 'local_action_note';

/** What is put into payloads, in the folder of the trial. */
export const PAYLOAD_FOLDER = 'payload';

/** Of the CA for machines, in the folder of the trial. */
export const CA_FOLDER = 'ca';

/** For every program that opens a CA of the trial. */
export const caEnvironment = (folder: string) => ({ KEYLIME_CA_CONFIG: join(folder, 'ca.conf') });

/** Makes a password for the CAs in `folder`. */
export async function writeCaSettings(folder: string): Promise<void> {
  const password = join(folder, 'ca-password');
  await mkdir(folder, { recursive: true });
  await writeFile(password, randomBytes(24).toString('base64'), { mode: 0o600 });
  await writeFile(join(folder, 'ca.conf'), `[ca]\npassword_file = ${password}\n`);
}

/** Makes in `folder` a CA with certificates for `machines`, and the files of their payload. */
export async function preparePayload(folder: string, machines: readonly string[]): Promise<Payload> {
  const caDir = join(folder, CA_FOLDER);
  const includeDir = join(folder, PAYLOAD_FOLDER);
  await mkdir(includeDir, { recursive: true, mode: 0o700 });
  const secret = randomBytes(16).toString('hex');
  const file = async (path: string, text: string, mode = 0o600) => {
    await writeFile(path, text, { mode });
    await chmod(path, mode);
  };
  await file(join(includeDir, SECRET), secret);
  await file(join(includeDir, 'autorun.sh'), SCRIPT, 0o700);
  await file(join(includeDir, 'action_list'), `${ACTION_NAME}\n`);
  await file(join(includeDir, ACTION_NAME), ACTION, 0o700);
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

/** Whether the action has noted there that machine `id` was revoked. */
export async function hasNoted(keylimeDir: string, id: string): Promise<boolean> {
  for (const name of await readdir(keylimeDir)) {
    if (!NOTE.test(name)) continue;
    const notification = JSON.parse(await readFile(join(keylimeDir, name), 'utf8')) as Readonly<
      Record<string, unknown>
    >;
    if (notification.type === 'revocation' && notification.agent_id === id) return true;
  }
  return false;
}

/** Whether the certificate of machine `id` is on the CRL. */
export async function isRevoked({ caDir }: Payload, id: string): Promise<boolean> {
  const listed = await execute(process.execPath, [programOf('ca'), 'list', '--all', '--json', '-d', caDir], {});
  if (listed.code !== 0) throw new Error(`keylime_ca list failed:\n${listed.output}`);
  const certificates = JSON.parse(listed.stdout) as readonly { readonly name: string; readonly state: string }[];
  return certificates.some(({ name, state }) => name === id && state === 'revoked');
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
