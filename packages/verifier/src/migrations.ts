import type { Migration } from '@keylime/service/migrate';

/** The schema of the verifier's database, step by step; steps are only ever added. */
export const verifierMigrations: readonly Migration[] = [
  {
    name: 'agents, runtime policies, outbox',
    async up(trx, { integer, text, json, boolean, identity }) {
      await trx.schema
        .createTable('runtime_policies')
        .addColumn('name', text, (column) => column.primaryKey())
        .addColumn('text', text, (column) => column.notNull())
        .addColumn('checksum', text, (column) => column.notNull())
        .addColumn('generator', integer, (column) => column.notNull())
        .execute();
      await trx.schema
        .createTable('agents')
        .addColumn('agent_id', text, (column) => column.primaryKey())
        .addColumn('verifier_id', text, (column) => column.notNull())
        .addColumn('revision', integer, (column) => column.notNull())
        .addColumn('enrolment', json, (column) => column.notNull())
        .addColumn('runtime_policy_name', text, (column) => column.notNull().references('runtime_policies.name'))
        .addColumn('operational_state', integer, (column) => column.notNull())
        .addColumn('supported_version', text, (column) => column.notNull())
        .addColumn('hash_alg', text, (column) => column.notNull())
        .addColumn('enc_alg', text, (column) => column.notNull())
        .addColumn('sign_alg', text, (column) => column.notNull())
        .addColumn('attestation_count', integer, (column) => column.notNull())
        .addColumn('last_received_quote', integer, (column) => column.notNull())
        .addColumn('last_successful_attestation', integer, (column) => column.notNull())
        .addColumn('severity_level', integer)
        .addColumn('last_event_id', text)
        .addColumn('last_failures', json, (column) => column.notNull())
        .addColumn('unreachable_rounds', integer, (column) => column.notNull())
        .addColumn('inconclusive_rounds', integer, (column) => column.notNull())
        .addColumn('progress', json, (column) => column.notNull())
        .execute();
      await trx.schema.createIndex('agents_by_verifier').on('agents').column('verifier_id').execute();
      await trx.schema.createIndex('agents_by_policy').on('agents').column('runtime_policy_name').execute();
      await trx.schema
        .createTable('outbox')
        .addColumn('sequence', identity)
        .addColumn('verifier_id', text, (column) => column.notNull())
        .addColumn('notification_id', text, (column) => column.notNull())
        .addColumn('agent_id', text, (column) => column.notNull())
        .addColumn('channel', text, (column) => column.notNull())
        .addColumn('body', text, (column) => column.notNull())
        .addColumn('created_at_ms', integer, (column) => column.notNull())
        .addColumn('attempts', integer, (column) => column.notNull())
        .addColumn('next_attempt_at_ms', integer, (column) => column.notNull())
        .addColumn('last_error', text)
        .addColumn('dead', boolean, (column) => column.notNull())
        .execute();
      await trx.schema
        .createIndex('outbox_by_agent')
        .on('outbox')
        .columns(['verifier_id', 'dead', 'agent_id', 'channel', 'sequence'])
        .execute();
    },
  },
  {
    name: 'key shares',
    async up(trx, { integer, text }) {
      const agents = () => trx.schema.alterTable('agents');
      await agents().addColumn('sealed_key_share', text).execute();
      await agents().addColumn('key_share_recipient', text).execute();
      await agents()
        .addColumn('key_share_retries', integer, (column) => column.notNull().defaultTo(0))
        .execute();
    },
  },
  {
    name: 'notifications to peers',
    async up(trx, { text }) {
      await trx.schema.alterTable('outbox').addColumn('target', text).execute();
      await trx.schema.alterTable('outbox').addColumn('spread_up_to', text).execute();
      await trx.schema.dropIndex('outbox_by_agent').execute();
      await trx.schema
        .createIndex('outbox_by_receiver')
        .on('outbox')
        .columns(['verifier_id', 'dead', 'channel', 'agent_id', 'target', 'sequence'])
        .execute();
    },
  },
  {
    name: 'measured-boot policies',
    async up(trx, { text }) {
      await trx.schema
        .createTable('mb_policies')
        .addColumn('name', text, (column) => column.primaryKey())
        .addColumn('text', text)
        .addColumn('checksum', text, (column) => column.notNull())
        .addColumn('rules', text)
        .execute();
      await trx.schema
        .alterTable('agents')
        .addColumn('mb_policy_name', text, (column) => column.references('mb_policies.name'))
        .execute();
      await trx.schema.createIndex('agents_by_mb_policy').on('agents').column('mb_policy_name').execute();
    },
  },
  {
    name: 'sealed revocation keys',
    async up(trx, { text }) {
      await trx.schema.alterTable('agents').addColumn('sealed_revocation_key', text).execute();
    },
  },
  {
    name: 'keys of runtime policies',
    async up(trx, { text }) {
      await trx.schema.alterTable('runtime_policies').addColumn('signature_key', text).execute();
    },
  },
  {
    name: 'push attestation',
    async up(trx, { integer, text, json, boolean, bytes }) {
      const agents = () => trx.schema.alterTable('agents');
      await agents()
        .addColumn('mode', text, (column) => column.notNull().defaultTo('pull'))
        .execute();
      await agents().addColumn('attest_by_ms', integer).execute();
      await agents()
        .addColumn('silent', boolean, (column) => column.notNull().defaultTo(false))
        .execute();
      await trx.schema.createIndex('agents_overdue').on('agents').columns(['verifier_id', 'attest_by_ms']).execute();
      await trx.schema
        .createTable('push_sessions')
        .addColumn('session_id', text, (column) => column.primaryKey())
        .addColumn('agent_id', text, (column) => column.notNull())
        .addColumn('challenge', text, (column) => column.notNull())
        .addColumn('created_at_ms', integer, (column) => column.notNull())
        .addColumn('challenge_expires_at_ms', integer, (column) => column.notNull())
        .addColumn('token_hash', text)
        .addColumn('token_expires_at_ms', integer)
        .addColumn('ak_name', text)
        .execute();
      await trx.schema.createIndex('push_sessions_by_agent').on('push_sessions').column('agent_id').execute();
      await trx.schema
        .createIndex('push_sessions_by_expiry')
        .on('push_sessions')
        .column('challenge_expires_at_ms')
        .execute();
      await trx.schema
        .createTable('attestations')
        .addColumn('agent_id', text, (column) => column.notNull())
        .addColumn('number', integer, (column) => column.notNull())
        .addColumn('verifier_id', text, (column) => column.notNull())
        .addColumn('stage', text, (column) => column.notNull())
        .addColumn('evaluation', text, (column) => column.notNull())
        .addColumn('chosen', json, (column) => column.notNull())
        .addColumn('offered', json, (column) => column.notNull())
        .addColumn('capabilities_at_ms', integer, (column) => column.notNull())
        .addColumn('challenge_expires_at_ms', integer, (column) => column.notNull())
        .addColumn('evidence_at_ms', integer)
        .addColumn('evidence_digest', text)
        .addColumn('collected', json)
        .addColumn('completed_at_ms', integer)
        .addColumn('failure_reason', text)
        .addColumn('failures', json)
        .addColumn('reset_count', integer)
        .addPrimaryKeyConstraint('attestations_key', ['agent_id', 'number'])
        .execute();
      await trx.schema
        .createIndex('attestations_to_judge')
        .on('attestations')
        .columns(['verifier_id', 'stage'])
        .execute();
      await trx.schema
        .createTable('attestation_evidence')
        .addColumn('agent_id', text, (column) => column.notNull())
        .addColumn('number', integer, (column) => column.notNull())
        .addColumn('body', bytes, (column) => column.notNull())
        .addPrimaryKeyConstraint('attestation_evidence_key', ['agent_id', 'number'])
        .execute();
    },
  },
];
