import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HttpClient } from './http-client.ts';
import { replaceableClient } from './replaceable-client.ts';

function fakeClient(name: string) {
  let answer = () => {};
  const closed: string[] = [];
  const client: HttpClient = {
    request: () =>
      new Promise((resolve) => {
        answer = () => resolve({ code: 200, headers: {}, body: Buffer.from(name) });
      }),
    close: async () => void closed.push(name),
  };
  return { client, closed, answer: () => answer() };
}

const GET = { method: 'GET', path: '/' } as const;

test('a request under way ends with the client that it began with, which is closed then and not before', async () => {
  const [one, two] = [fakeClient('one'), fakeClient('two')];
  const client = replaceableClient(one.client);
  const first = client.request(GET);
  client.replace(two.client);
  const second = client.request(GET);
  assert.deepEqual(one.closed, []);
  one.answer();
  two.answer();
  assert.deepEqual([(await first).body.toString(), (await second).body.toString()], ['one', 'two']);
  assert.deepEqual([one.closed, two.closed], [['one'], []]);
});

test('an idle client is closed when it is replaced', async () => {
  const [one, two] = [fakeClient('one'), fakeClient('two')];
  const client = replaceableClient(one.client);
  client.replace(two.client);
  assert.deepEqual(one.closed, ['one']);
  await client.close();
  assert.deepEqual(two.closed, ['two']);
});
