import type { AgentId } from '@keylime/core/agent-id';
import type { Kysely, Selectable } from 'kysely';
import type { GroupWrite } from './agent-store.ts';
import type { SecretKind, SecretVault } from './secret-vault.ts';
import type { AgentsTable, VerifierTables } from './tables.ts';

type Row = Pick<Selectable<AgentsTable>, 'agent_id' | 'enrolment' | 'sealed_key_share' | 'sealed_revocation_key'>;

/**
 * Seals what this verifier's rows hold under another key than the vault's first, as many as can be opened, and revocation
 * keys that an earlier version left in the clear. To be done at start, before anybody else writes. Tells how many rows changed,
 * and the agents with a secret that none of the vault's keys opens.
 */
export async function sealSecrets(
  db: Kysely<VerifierTables>,
  write: GroupWrite,
  verifierId: string,
  vault: SecretVault,
): Promise<{ readonly sealed: number; readonly lost: readonly string[] }> {
  const rows = await db
    .selectFrom('agents')
    .select(['agent_id', 'enrolment', 'sealed_key_share', 'sealed_revocation_key'])
    .where('verifier_id', '=', verifierId)
    .execute();
  let sealed = 0;
  for (const row of rows) {
    const changes = changesOf(row, vault);
    if (changes === undefined) continue;
    await write((trx) => trx.updateTable('agents').set(changes).where('agent_id', '=', row.agent_id).execute());
    sealed += 1;
  }
  const secrets = (row: Row) => [row.sealed_key_share, row.sealed_revocation_key].filter((one) => one !== null);
  const lost = rows.filter((row) => secrets(row).some((secret) => !vault.hasKeyOf(secret)));
  return { sealed, lost: lost.map(({ agent_id: id }) => id) };
}

function changesOf({ agent_id, enrolment, ...row }: Row, vault: SecretVault) {
  const id = agent_id as AgentId;
  const share = resealed(vault, id, 'key share', row.sealed_key_share);
  const key = resealed(vault, id, 'revocation key', row.sealed_revocation_key);
  const { revocationKey: clear, ...others } = enrolment;
  const sealed = clear ? vault.seal(id, 'revocation key', Buffer.from(clear)) : key;
  if (share === undefined && sealed === undefined && clear === undefined) return undefined;
  return {
    ...(share !== undefined && { sealed_key_share: share }),
    ...(sealed !== undefined && { sealed_revocation_key: sealed }),
    ...(clear !== undefined && { enrolment: others }),
  };
}

/** `undefined` where nothing is to be done, or where it cannot be opened: who needs it is told then. */
function resealed(vault: SecretVault, id: AgentId, kind: SecretKind, sealed: string | null): string | undefined {
  if (sealed === null || !vault.isOutdated(sealed)) return undefined;
  let secret: Buffer;
  try {
    secret = vault.open(id, kind, sealed);
  } catch {
    return undefined;
  }
  try {
    return vault.seal(id, kind, secret);
  } finally {
    secret.fill(0);
  }
}
