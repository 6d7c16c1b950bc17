/** Writes the option tables of docs/configure.md from the declarations: `node scripts/config-docs.ts`. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { withOptionTables } from '@keylime/service/config-docs';

const file = path.join(import.meta.dirname, '../docs/configure.md');
writeFileSync(file, withOptionTables(readFileSync(file, 'utf8')));
