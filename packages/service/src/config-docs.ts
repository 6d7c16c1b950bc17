import { agentOptions } from './options/agent.ts';
import { caOptions } from './options/ca.ts';
import { loggerOptions } from './options/logging.ts';
import { registrarOptions } from './options/registrar.ts';
import { tenantOptions } from './options/tenant.ts';
import { revocationOptions, verifierOptions } from './options/verifier.ts';
import type { OptionTable } from './options.ts';

const TABLES: Readonly<Record<string, OptionTable>> = {
  verifier: verifierOptions,
  revocations: revocationOptions,
  registrar: registrarOptions,
  tenant: tenantOptions,
  ca: caOptions,
  agent: agentOptions,
  logger_keylime: loggerOptions,
};

/**
 * `document` with the option tables, between `<!-- options NAME -->` and `<!-- end -->`, written anew from the
 * declarations. Throws if the document names a table that there is none of, or leaves one out.
 */
export function withOptionTables(document: string): string {
  const missing = new Set(Object.keys(TABLES));
  const written = document.replace(/(<!-- options (\w+) -->\n).*?(<!-- end -->)/gs, (_, start, name, end) => {
    const table = TABLES[name];
    if (table === undefined) throw new Error(`there is no option table "${name}"`);
    missing.delete(name);
    return `${start}${markdown(table)}${end}`;
  });
  if (missing.size > 0) throw new Error(`option tables are left out: ${[...missing].join(', ')}`);
  return written;
}

function markdown(table: OptionTable): string {
  const rows = Object.entries(table).map(([name, { kind, fallback, doc }]) => {
    const value = fallback === '' ? '(empty)' : `\`${fallback}\``;
    return `| \`${name}\` | ${kind} | ${value} | ${doc} |`;
  });
  return ['| Option | Values | Default | Meaning |', '|---|---|---|---|', ...rows, ''].join('\n');
}
