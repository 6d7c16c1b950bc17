import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { connectNats } from '@keylime/service/nats-connection';
import { startNatsServer } from '@keylime/testing/nats-server';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { AttackedAgent, Revocation } from './agent-harness.ts';

/** A revocation action that notes whom the message is about; `calls` reads the notes. */
export const record = (one: AttackedAgent): string =>
  `#!/bin/sh\nsed 's/.*"agent_id":"\\([^"]*\\)".*/\\1/' "$1" >> ${one.home}/calls; echo >> ${one.home}/calls\n`;

export const calls = (one: AttackedAgent): readonly string[] => {
  const file = path.join(one.home, 'calls');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
};

/** A NATS server with the stream of a verifier: what an agent is to be told of it, and how to publish. */
export async function openNatsRevocations(t: TestContext) {
  const server = await startNatsServer();
  t.after(() => server.stop());
  const nats = await connectNats({
    ...{ servers: [`nats://127.0.0.1:${server.port}`], name: 'verifier', login: undefined },
    tls: { trustedCas: [] },
  });
  t.after(() => nats.close());
  const { streams } = await jetstreamManager(nats);
  await streams.add({ name: 'keylime_revocations', subjects: ['keylime.revocations.>'] });
  return {
    settings: { revocation_nats_url: `['nats://127.0.0.1:${server.port}']` },
    publish: (data: Revocation) =>
      jetstream(nats).publish('keylime.revocations.revocation', JSON.stringify({ specversion: '1.0', data })),
  };
}
