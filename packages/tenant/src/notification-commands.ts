import { isJsonObject, type Json } from '@keylime/core/json';
import type { Command } from './commands.ts';
import { printJson } from './output.ts';
import { type Answer, resultsOf, type ServerApi, unexpectedAnswer } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/** [compat] Existing verifiers have no such routes. */
function results(verifier: ServerApi, doing: string, answer: Answer): { readonly [key: string]: Json } {
  const found = resultsOf(answer);
  if (answer.status === 200 && found !== undefined) return found;
  if (answer.status === 404) {
    throw new TenantError('unsupported', `${verifier.label} keeps no account of notifications: it is of another make`);
  }
  throw unexpectedAnswer(verifier, doing, answer);
}

async function deadLetters(tenant: Tenant): Promise<void> {
  const verifier = tenant.verifier();
  const doing = 'listing notifications';
  const summary = results(verifier, doing, await verifier.call('GET', '/notifications'));
  printJson(tenant.output, `Notifications of ${verifier.label}:`, summary);
  const channels = Array.isArray(summary.channels) ? summary.channels.filter(isJsonObject) : [];
  for (const { channel, enabled, waiting, delivered, failed, dead } of channels) {
    const off = enabled === false ? ' (switched off)' : '';
    const counts = `${waiting} wait, ${delivered} delivered, ${failed} attempts failed, ${dead} given up`;
    tenant.output.log.info(`Channel ${channel}${off}: ${counts}`);
  }
  for (let after = 0; ; ) {
    const { dead } = results(verifier, doing, await verifier.call('GET', `/notifications/dead?after=${after}`));
    const page = Array.isArray(dead) ? dead.filter(isJsonObject) : [];
    const last = page.at(-1)?.id;
    if (typeof last !== 'number' || last <= after) return;
    for (const one of page) {
      const { id, channel, target, agent_id: agent, error } = one;
      const to = typeof target === 'string' ? ` to ${target}` : '';
      printJson(tenant.output, `Given up: ${id}, about ${agent}, on channel ${channel}${to}: ${error}`, one);
    }
    after = last;
  }
}

async function replay(tenant: Tenant): Promise<void> {
  const { notification: given } = tenant.given;
  if (given.length === 0) {
    throw new TenantError('invalid_argument', '--notification is required: numbers that deadletters shows, or all');
  }
  const odd = given.find((one) => one !== 'all' && !/^\d{1,15}$/.test(one));
  if (odd !== undefined) throw new TenantError('invalid_argument', `--notification ${odd}: neither a number nor all`);
  const ids = given.includes('all') ? 'all' : given.map(Number);
  const verifier = tenant.verifier();
  const answer = await verifier.call('POST', '/notifications/dead/replay', { ids });
  const { replayed } = results(verifier, 'sending notifications again', answer);
  tenant.output.log.info(`${replayed} notifications are sent again`);
  if (replayed === 0) throw new TenantError('invalid_argument', 'No notification of these numbers was given up');
}

async function revocationCertificates(tenant: Tenant): Promise<void> {
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', '/notifications/certificates');
  const { certificates } = results(verifier, 'reading certificates', answer);
  tenant.output.print(String(certificates).trimEnd());
}

/** The commands about notifications: what was given up, and what agents verify them with. */
export const notificationCommands: { readonly [name: string]: Command } = {
  deadletters: { help: 'show notifications that the verifier could not deliver', run: deadLetters },
  replay: { help: 'have such notifications sent again, those of --notification', run: replay },
  revocationcerts: {
    help: 'print the certificates that notifications about agents without a key are verified with',
    run: revocationCertificates,
  },
};
