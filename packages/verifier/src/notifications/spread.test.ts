import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Delivery, Spread } from './outbox.ts';
import { type Peer, spreadToPeers } from './spread.ts';

const delivery: Delivery = {
  ...{ sequence: 1, notificationId: 'n', agentId: 'offender', channel: 'agent', body: '{}', createdAtMs: 0 },
  ...{ target: undefined, spreadUpTo: undefined, attempts: 0 },
};

const fleet = (count: number): readonly Peer[] =>
  Array.from({ length: count }, (_, n) => ({ id: `peer-${String(n).padStart(4, '0')}`, isReachable: true }));

function site(peers: readonly Peer[], waiting: readonly string[] = []) {
  const offered: string[] = [];
  const spreads: Spread[] = [];
  const parts = {
    peersAfter: async (after: string | undefined, limit: number) =>
      peers.filter(({ id }) => after === undefined || id > after).slice(0, limit),
    store: {
      waitingPeers: async () => new Set(waiting),
      spread: async (_: Delivery, spread: Spread) => void spreads.push(spread),
    },
    offer: async (peerId: string) => void offered.push(peerId),
  };
  return { offered, spreads, parts };
}

test('every peer is offered a notification once, and how far it came is written down on the way', async () => {
  const peers = fleet(600);
  const { offered, spreads, parts } = site(peers);
  await spreadToPeers(delivery, parts);
  assert.deepEqual(
    offered,
    peers.map(({ id }) => id),
  );
  assert.deepEqual(
    spreads.map(({ upTo }) => upTo),
    ['peer-0255', 'peer-0511', 'peer-0599'],
  );
});

test('[MUST] what a killed process had written down is not offered again, and all the rest is', async () => {
  const { offered, parts } = site(fleet(600));
  await spreadToPeers({ ...delivery, spreadUpTo: 'peer-0511' }, parts);
  assert.equal(offered.length, 88);
  assert.equal(offered[0], 'peer-0512');
});

test('those who do not take it, were not reached, or wait for an earlier one are left for later, with the reason', async () => {
  const peers = fleet(4).map((peer, n) => ({ ...peer, isReachable: n !== 1 }));
  const { offered, spreads, parts } = site(peers, ['peer-0002']);
  const offer = async (peerId: string) => {
    if (peerId === 'peer-0003') throw new Error('connection refused');
    offered.push(peerId);
  };
  await spreadToPeers(delivery, { ...parts, offer });
  assert.deepEqual(offered, ['peer-0000']);
  assert.deepEqual(spreads[0]?.missed, [
    { target: 'peer-0001', error: 'it was not reached lately' },
    { target: 'peer-0002', error: 'an earlier notification waits' },
    { target: 'peer-0003', error: 'connection refused' },
  ]);
});

test('[MUST] peers that never answer hold up nobody, and are not asked all at once', async () => {
  const { parts } = site(fleet(200));
  const told: string[] = [];
  const ending = Promise.withResolvers<void>();
  let underWay = 0;
  let most = 0;
  const offer = async (peerId: string) => {
    most = Math.max(most, ++underWay);
    if (peerId < 'peer-0060') await ending.promise;
    else told.push(peerId);
    underWay--;
  };
  const spreading = spreadToPeers(delivery, { ...parts, offer });
  await new Promise(setImmediate);
  assert.equal(told.length, 140);
  assert.ok(most <= 64, `${most} at once`);
  ending.resolve();
  await spreading;
});
