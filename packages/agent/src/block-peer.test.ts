import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { neverBlocked, peerToBlock } from './block-peer.ts';
import { parseRevocationNotice } from './revocation-notice.ts';

const isRoot = process.getuid?.() === 0;
const canBlock = isRoot && hasNft() ? false : 'needs root and nftables';

function hasNft(): boolean {
  try {
    execFileSync('unshare', ['--net', 'nft', 'list', 'tables']);
    return true;
  } catch {
    return false;
  }
}

function notice(changes: Readonly<Record<string, string>>) {
  const parsed = parseRevocationNotice(
    JSON.stringify({ type: 'revocation', agent_id: 'peer', ip: '10.1.2.3', ...changes }),
  );
  assert.ok(parsed);
  return parsed;
}

test('[MUST] neither this machine, nor loopback, nor several machines at once are blocked', () => {
  const problem = (changes: Readonly<Record<string, string>>) => {
    const address = peerToBlock(notice(changes), 'me');
    return address.ok ? address.value : address.problem;
  };
  assert.equal(problem({}), '10.1.2.3');
  assert.equal(problem({ ip: 'fd00::7' }), 'fd00::7');
  assert.equal(problem({ ip: '::ffff:10.1.2.3' }), '10.1.2.3');
  assert.equal(problem({ agent_id: 'me' }), 'this_machine');
  assert.equal(problem({ ip: 'host.example' }), 'no_address');
  for (const ip of [
    '127.0.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::1',
    '::',
    'ff02::1',
    '::ffff:127.0.0.1',
  ]) {
    assert.equal(problem({ ip }), 'address_of_no_peer', ip);
  }
});

test('[MUST] no address of an interface of this machine is blocked, however it is written', () => {
  const own = Object.values(networkInterfaces()).flatMap((found) => (found ?? []).filter(({ internal }) => !internal));
  for (const { address, family } of own) {
    for (const ip of family === 'IPv4' ? [address, `::ffff:${address}`] : [address, address.toUpperCase()]) {
      assert.deepEqual(peerToBlock(notice({ ip }), 'me'), { ok: false, problem: 'this_machine' }, ip);
    }
  }
  // Where the tests run there may be no network: here is one.
  const script = `
    import { execFileSync } from 'node:child_process';
    import { peerToBlock } from ${JSON.stringify(import.meta.resolve('./block-peer.ts'))};
    const notice = (address) => ({ agentId: 'peer', address, type: 'revocation', json: {} });
    const said = () => console.log(['10.9.9.1', 'fd00::9', '10.9.9.2'].map((ip) => peerToBlock(notice(ip), 'me').problem).join());
    said();
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    for (const address of ['10.9.9.1/32', 'fd00::9/128']) execFileSync('ip', ['address', 'add', address, 'dev', 'lo']);
    said();
  `;
  if (!isRoot) return;
  const args = ['--net', process.execPath, '--input-type=module', '-e', script];
  const output = execFileSync('unshare', args, { encoding: 'utf8' });
  assert.deepEqual(output.trim().split('\n'), [',,', 'this_machine,this_machine,']);
});

test('[MUST] an address that the operator excludes is never blocked', () => {
  const never = neverBlocked(['10.1.2.3', '10.7.0.0/16', 'fd00:7::/32']);
  const problem = (ip: string) => {
    const address = peerToBlock(notice({ ip }), 'me', never);
    return address.ok ? undefined : address.problem;
  };
  for (const ip of ['10.1.2.3', '::ffff:10.1.2.3', '::ffff:a01:203', '10.7.255.1', 'fd00:7::1', 'FD00:0007:0::1']) {
    assert.equal(problem(ip), 'never_blocked', ip);
  }
  for (const ip of ['10.1.2.4', '10.8.0.1', 'fd00:8::1']) assert.equal(problem(ip), undefined, ip);
});

test('a blocked machine is not reached any more, others are, and blocking twice is blocking once', {
  skip: canBlock,
}, () => {
  // In a network of its own: two addresses on loopback stand for two machines.
  const script = `
    import { execFileSync } from 'node:child_process';
    import { once } from 'node:events';
    import { connect, createServer } from 'node:net';
    import { blockPeer, checkBlocking } from ${JSON.stringify(import.meta.resolve('./block-peer.ts'))};
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    for (const address of ['10.9.9.1/32', '10.9.9.2/32', 'fd00::9/128']) execFileSync('ip', ['address', 'add', address, 'dev', 'lo']);
    const server = createServer((socket) => socket.on('error', () => {}).end('x')).listen(0, '::');
    await once(server, 'listening');
    const reaches = (host) => new Promise((resolve) => {
      const socket = connect({ host, port: server.address().port, timeout: 300 });
      const end = (answer) => { socket.destroy(); resolve(answer); };
      socket.on('connect', () => end(true)).on('timeout', () => end(false)).on('error', () => end(false));
    });
    const all = async () => console.log(await reaches('10.9.9.1'), await reaches('10.9.9.2'), await reaches('fd00::9'));
    await checkBlocking();
    await all();
    await blockPeer('10.9.9.1');
    await blockPeer('10.9.9.1');
    await all();
    await blockPeer('fd00::9');
    await all();
    console.log(execFileSync('nft', ['list', 'chain', 'inet', 'keylime', 'input'], { encoding: 'utf8' }).split('drop').length - 1);
    server.close();
  `;
  const output = execFileSync('unshare', ['--net', process.execPath, '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.deepEqual(output.trim().split('\n'), ['true true true', 'false true true', 'false true false', '2']);
});

test('[MUST] without the right to block the agent is told at start', { skip: canBlock }, () => {
  const script = `
    import { checkBlocking } from ${JSON.stringify(import.meta.resolve('./block-peer.ts'))};
    process.setuid('nobody');
    await checkBlocking().catch((error) => console.log(error.code, error.message));
  `;
  const output = execFileSync('unshare', ['--net', process.execPath, '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.match(output, /^action_unavailable revocation_block_peer is on, and nft cannot be used/);
});
