import { execFile } from 'node:child_process';
import { BlockList, isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { AgentError } from './agent-error.ts';
import type { RevocationNotice } from './revocation-notice.ts';

const execute = promisify(execFile);

/** Addresses that are no peer's: this machine, everybody, several, nobody. */
const NO_PEER = new BlockList();
NO_PEER.addSubnet('127.0.0.0', 8, 'ipv4');
NO_PEER.addSubnet('0.0.0.0', 8, 'ipv4');
NO_PEER.addSubnet('224.0.0.0', 3, 'ipv4');
NO_PEER.addAddress('::', 'ipv6');
NO_PEER.addAddress('::1', 'ipv6');
NO_PEER.addSubnet('ff00::', 8, 'ipv6');

export type NotBlockable = 'no_address' | 'address_of_no_peer' | 'this_machine' | 'never_blocked';

const familyOf = (address: string) => (isIPv4(address) ? 'ipv4' : 'ipv6');

/** The addresses of `revocation_block_never`: each an IP address, or `ADDRESS/BITS`. */
export function neverBlocked(entries: readonly string[]): BlockList {
  const never = new BlockList();
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/');
    if (bits === undefined) never.addAddress(address, familyOf(address));
    else never.addSubnet(address, Number(bits), familyOf(address));
  }
  return never;
}

/** Those of the interfaces as they are now: they come and go while the agent runs. */
const ownAddresses = (): BlockList =>
  neverBlocked(Object.values(networkInterfaces()).flatMap((found) => (found ?? []).map(({ address }) => address)));

/**
 * The address to block for a notice. [MUST] Never one of this machine, and never one that it cannot do without: whoever
 * reports a machine says what its address is, and that of the gateway would cut off all.
 */
export function peerToBlock(
  notice: RevocationNotice,
  ownAgentId: string,
  never = new BlockList(),
): Parsed<string, NotBlockable> {
  if (notice.agentId === ownAgentId) return bad('this_machine');
  if (notice.address === undefined) return bad('no_address');
  const address = notice.address.replace(/^::ffff:(?=[\d.]+$)/i, '');
  const family = familyOf(address);
  if (NO_PEER.check(address, family)) return bad('address_of_no_peer');
  if (ownAddresses().check(address, family)) return bad('this_machine');
  return never.check(address, family) ? bad('never_blocked') : good(address);
}

/**
 * nftables commands that drop all packets from and to `address`, as one transaction; run twice they change nothing. The
 * table `inet keylime` has nothing else in it: `nft delete table inet keylime` lifts all blocks.
 */
export function blockingRules(address: string): string {
  const set = isIPv4(address) ? 'revoked4' : 'revoked6';
  return `add table inet keylime
add set inet keylime revoked4 { type ipv4_addr; }
add set inet keylime revoked6 { type ipv6_addr; }
add chain inet keylime input { type filter hook input priority -150; policy accept; }
add chain inet keylime output { type filter hook output priority -150; policy accept; }
add chain inet keylime forward { type filter hook forward priority -150; policy accept; }
flush chain inet keylime input
flush chain inet keylime output
flush chain inet keylime forward
add rule inet keylime input ip saddr @revoked4 drop
add rule inet keylime input ip6 saddr @revoked6 drop
add rule inet keylime output ip daddr @revoked4 drop
add rule inet keylime output ip6 daddr @revoked6 drop
add rule inet keylime forward ip saddr @revoked4 drop
add rule inet keylime forward ip daddr @revoked4 drop
add rule inet keylime forward ip6 saddr @revoked6 drop
add rule inet keylime forward ip6 daddr @revoked6 drop
add element inet keylime ${set} { ${address} }
`;
}

/** Blocks `address` from now on. Rejects with what nft says. */
export const blockPeer = (address: string): Promise<void> => nft(['-f', '-'], blockingRules(address));

/** [MUST] Finds out at start that nothing could be blocked, not when it matters. @throws AgentError `action_unavailable` */
export async function checkBlocking(): Promise<void> {
  try {
    await nft(['list', 'tables'], '');
  } catch (cause) {
    throw new AgentError(
      'action_unavailable',
      `revocation_block_peer is on, and nft cannot be used: ${cause instanceof Error ? cause.message : cause}. Install nftables, and give the agent CAP_NET_ADMIN (run_as = "" and, in its systemd unit, User=keylime and AmbientCapabilities=CAP_NET_ADMIN), or switch it off.`,
      { cause },
    );
  }
}

async function nft(args: readonly string[], input: string): Promise<void> {
  const running = execute('nft', args, { timeout: 10_000 });
  running.child.stdin?.on('error', () => {}).end(input);
  try {
    await running;
  } catch (cause) {
    const { stderr, message } = cause as Error & { readonly stderr?: string };
    throw new Error((stderr || message).trim(), { cause });
  }
}
