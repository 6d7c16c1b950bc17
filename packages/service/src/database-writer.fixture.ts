/** Run by database.test.ts: commits one row after another and says so, until it is killed. */
import { openDatabase } from './database.ts';
import { migrate } from './migrate.ts';
import { writeGroup } from './write-group.ts';

const db = await openDatabase<{ verdicts: { id: number } }>(JSON.parse(process.argv[2] ?? ''));
const up = async (trx: Parameters<Parameters<typeof migrate>[1]['migrations'][0]['up']>[0]) => {
  await trx.schema.createTable('verdicts').addColumn('id', 'bigint').execute();
};
await migrate(db, { program: 'verifier', migrations: [{ name: 'verdicts', up }] });
const group = writeGroup(db, { maxDelayMs: 0 });
for (let id = 0; ; id++) {
  await group.submit((trx) => trx.insertInto('verdicts').values({ id }).execute());
  process.stdout.write(`${id}\n`);
}
