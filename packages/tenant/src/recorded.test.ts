import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { openLab, type Seen, type TestServer } from './testing/lab.ts';

type Exchange = {
  readonly server: 'verifier' | 'registrar';
  readonly method: string;
  readonly path: string;
  readonly request?: string;
  readonly status: number;
  readonly body: string;
};
type Case = {
  readonly name: string;
  readonly argv: readonly string[];
  readonly exit: number;
  readonly exchanges: readonly Exchange[];
  readonly stdout: readonly string[];
};

const file = (name: string) => fileURLToPath(new URL(`vectors/${name}`, import.meta.url));
const { cases } = JSON.parse(readFileSync(file('recorded.json'), 'utf8')) as { readonly cases: readonly Case[] };

/** Lines that ours words otherwise; scripts do not look for them. */
const OWN_WORDS: Readonly<Record<string, RegExp>> = {
  'regstatus-absent': /Check the agent logs/,
  'delete-absent': /is deleted from Verifier/,
};
/** They need an agent that answers a fresh nonce: enrolment.test.ts. */
const NEEDS_AGENT = ['add', 'add-conflict', 'update'];

const isLog = (line: string): boolean => line.startsWith('<time> - ');

for (const one of cases.filter(({ name }) => !NEEDS_AGENT.includes(name))) {
  test(`${one.name}: ${one.argv.join(' ')} prints what the existing tenant prints, with the same requests and exit code`, async (t) => {
    const lab = openLab(t);
    const servers: Partial<Record<'verifier' | 'registrar', TestServer>> = {};
    const fill = (text: string): string =>
      text
        .replaceAll('<verifier port>', String(servers.verifier?.port))
        .replaceAll('<registrar port>', String(servers.registrar?.port))
        .replaceAll('<agent port>', '9002')
        .replaceAll('<policy file>', file('policy.json'));
    const pending = [...one.exchanges];
    const respond = (server: string) => (seen: Seen) => {
      const next = pending.shift();
      const parsed = (text: string) => (text === '' ? undefined : JSON.parse(text));
      const body = parsed(fill(next?.request ?? ''));
      const expected = next && { server: next.server, method: next.method, path: fill(next.path), body };
      assert.deepEqual({ server, ...seen, body: parsed(seen.body) }, expected);
      return next && { status: next.status, body: fill(next.body) };
    };
    servers.verifier = await lab.serve(respond('verifier'));
    servers.registrar = await lab.serve(respond('registrar'));

    const outcome = await lab.run(one.argv.map(fill), servers);

    assert.deepEqual(pending, []);
    assert.equal(outcome.code, one.exit);
    assert.deepEqual(outcome.data, one.stdout.filter((line) => !isLog(line)).map(fill));
    const theirs = one.stdout.filter((line) => isLog(line) && !OWN_WORDS[one.name]?.test(line));
    const rest = [...outcome.messages];
    for (const line of theirs) {
      const text = fill(line).replace('<time> - keylime.tenant - ', '');
      const at = rest.findIndex((ours) => ours.startsWith(text));
      assert.notEqual(at, -1, `a line that starts with "${text}" after the ones before; left: ${JSON.stringify(rest)}`);
      rest.splice(0, at + 1);
    }
  });
}
