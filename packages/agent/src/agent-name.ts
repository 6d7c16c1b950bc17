import { createHash, type KeyObject, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import { AgentError } from './agent-error.ts';

/** Where an agent id that was made up is kept below `keylime_dir`. */
export const GENERATED_UUID_FILE = 'agent_uuid';

/**
 * Lower-case hex SHA-256 over the EK as PEM SubjectPublicKeyInfo with its line ends: the agent id `hash_ek`, and what
 * agent_data.json calls `ek_hash` (spec 02 section 1.6).
 */
export const hashEk = (ek: KeyObject): string =>
  createHash('sha256')
    .update(ek.export({ format: 'pem', type: 'spki' }))
    .digest('hex');

/** A UUID in any of its notations (dashed, bare, in braces, as URN; any case) in the usual one, or `undefined`. */
export function normalUuid(text: string): string | undefined {
  const bare = /^(?:urn:uuid:)?(.*)$/s.exec(text.toLowerCase())?.[1] ?? '';
  const inner = /^\{(.*)\}$/s.exec(bare)?.[1] ?? bare;
  const groups = /^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$/.exec(inner);
  return groups?.slice(1).join('-');
}

/**
 * The id of this machine by option `uuid`. `generate` makes one up once and keeps it in `keylime_dir`.
 * @throws AgentError `agent_id_malformed` if the option is neither of the two words nor a UUID.
 */
export async function resolveAgentId(options: {
  readonly uuid: string;
  readonly ekHash: string;
  readonly keylimeDir: string;
}): Promise<AgentId> {
  const { uuid, ekHash, keylimeDir } = options;
  const id = uuid === 'generate' ? await keptUuid(join(keylimeDir, GENERATED_UUID_FILE)) : uuid;
  const parsed = parseAgentId(id === 'hash_ek' ? ekHash : (normalUuid(id) ?? ''));
  if (parsed !== undefined) return parsed;
  throw new AgentError(
    'agent_id_malformed',
    `uuid = "${uuid}" is no agent id: set it to a UUID, to "hash_ek" or to "generate" (a random UUID, made once and kept).`,
  );
}

async function keptUuid(path: string): Promise<string> {
  const kept = (await findFile(path))?.toString('utf8').trim();
  if (kept === undefined) {
    const uuid = randomUUID();
    await replaceFile(path, `${uuid}\n`, PRIVATE_FILE_MODE);
    return uuid;
  }
  const uuid = normalUuid(kept);
  if (uuid !== undefined) return uuid;
  throw new AgentError(
    'agent_id_malformed',
    `${path} holds no UUID: write the agent's one into it, or delete the file.`,
  );
}
