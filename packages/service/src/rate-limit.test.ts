import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressKey, rateLimiter } from './rate-limit.ts';

test('a request that is given back does not count', () => {
  const limiter = rateLimiter({ rate: { burst: 1, perMinute: 1 }, now: () => 0 });
  for (let n = 0; n < 3; n++) {
    assert.equal(limiter.take('a'), undefined);
    limiter.giveBack('a');
  }
  limiter.giveBack('a');
  limiter.giveBack('never seen');
  assert.equal(limiter.take('a'), undefined);
  assert.equal(limiter.take('a'), 60);
});

test('a burst passes, then as many as the rate allows, and the refused are told how long to wait', () => {
  let time = 0;
  const limiter = rateLimiter({ rate: { burst: 3, perMinute: 6 }, now: () => time });
  assert.deepEqual(
    [1, 2, 3].map(() => limiter.take('a')),
    [undefined, undefined, undefined],
  );
  assert.equal(limiter.take('a'), 10);
  assert.equal(limiter.take('b'), undefined);
  time += 9_000;
  assert.equal(limiter.take('a'), 1);
  time += 1_000;
  assert.equal(limiter.take('a'), undefined);
  time += 3_600_000;
  assert.deepEqual(
    [1, 2, 3].map(() => limiter.take('a')),
    [undefined, undefined, undefined],
  );
  assert.equal(limiter.take('a'), 10);
});

test('the number of keys is bounded, and those in use are kept', () => {
  const limiter = rateLimiter({ rate: { burst: 1, perMinute: 1 }, now: () => 0, maxKeys: 2 });
  assert.equal(limiter.take('busy'), undefined);
  for (let i = 0; i < 10; i++) {
    assert.equal(limiter.take(`other ${i}`), undefined);
    assert.equal(limiter.take('busy'), 60);
  }
});

test('an IPv6 host is one address, and IPv4 is the same in both notations', () => {
  assert.equal(addressKey('10.0.0.1'), '10.0.0.1');
  assert.equal(addressKey('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(addressKey('2001:db8:0:1::5'), addressKey('2001:db8:0:1:ffff::9'));
  assert.notEqual(addressKey('2001:db8:0:1::5'), addressKey('2001:db8:0:2::5'));
  assert.equal(addressKey('fe80::1%eth0'), 'fe80:0:0:0::/64');
  assert.equal(addressKey('::1'), '0:0:0:0::/64');
});
