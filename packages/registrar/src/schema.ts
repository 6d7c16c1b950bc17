import type { Migration } from '@keylime/service/migrate';

/** A registration as it is stored: keys and certificates in base64. */
export type StoredRegistration = {
  readonly ekPublic: string;
  readonly ekCertificate: string | null;
  readonly ekIntermediates: readonly string[];
  readonly akPublic: string;
  readonly iakPublic: string | null;
  readonly iakCertificate: string | null;
  readonly idevidPublic: string | null;
  readonly idevidCertificate: string | null;
  readonly ip: string | null;
  readonly port: number | null;
  readonly mtlsCertificate: string | null;
};

/** Tables of the registrar's database. Times are milliseconds since 1970. */
export type RegistrarTables = {
  /** Agents whose TPM has answered a challenge. */
  registrar_agents: {
    agent_id: string;
    registration: StoredRegistration;
    regcount: number;
    activated_at: number;
    tag_digest: Buffer;
  };
  /** What unproven senders say. */
  registrar_pending: {
    key: string;
    agent_id: string;
    source: string;
    registration: StoredRegistration;
    counts: boolean;
    tag_digest: Buffer;
    created_at: number;
    expires_at: number;
  };
};

export const registrarMigrations: readonly Migration[] = [
  {
    name: 'agents and pending registrations',
    async up(trx, columns) {
      await trx.schema
        .createTable('registrar_agents')
        .addColumn('agent_id', columns.text, (column) => column.primaryKey())
        .addColumn('registration', columns.json, (column) => column.notNull())
        .addColumn('regcount', columns.integer, (column) => column.notNull())
        .addColumn('activated_at', columns.integer, (column) => column.notNull())
        .addColumn('tag_digest', columns.bytes, (column) => column.notNull())
        .execute();
      await trx.schema
        .createTable('registrar_pending')
        .addColumn('key', columns.text, (column) => column.primaryKey())
        .addColumn('agent_id', columns.text, (column) => column.notNull())
        .addColumn('source', columns.text, (column) => column.notNull())
        .addColumn('registration', columns.json, (column) => column.notNull())
        .addColumn('counts', columns.boolean, (column) => column.notNull())
        .addColumn('tag_digest', columns.bytes, (column) => column.notNull())
        .addColumn('created_at', columns.integer, (column) => column.notNull())
        .addColumn('expires_at', columns.integer, (column) => column.notNull())
        .execute();
      const index = (name: string, column: string) =>
        trx.schema.createIndex(name).on('registrar_pending').column(column).execute();
      await index('registrar_pending_agent_id', 'agent_id');
      await index('registrar_pending_created_at', 'created_at');
      await index('registrar_pending_expires_at', 'expires_at');
    },
  },
];
