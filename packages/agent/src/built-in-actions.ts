import type { BlockList } from 'node:net';
import { type CaFolder, openCa, readCaCertificate } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { revokeMachine } from '@keylime/pki/revocation';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import { blockPeer, checkBlocking, neverBlocked, peerToBlock } from './block-peer.ts';
import type { RevocationNotice } from './revocation-notice.ts';

/** Something that this program itself does about a reported machine. It tells in the log what came of it. */
export type BuiltInAction = (notice: RevocationNotice) => Promise<void>;

export type BuiltInSettings = {
  readonly revocation_block_peer: boolean;
  readonly revocation_block_never: readonly string[];
  readonly revocation_crl_ca_dir: string | undefined;
  readonly revocation_crl_ca_password: string;
};

/**
 * The actions that the settings switch on. [MUST] What they need is looked for now: that an action cannot be done must not
 * be found out when it matters. @throws AgentError `action_unavailable`
 */
export async function openBuiltInActions(
  settings: BuiltInSettings,
  ownAgentId: string,
  log: Log,
): Promise<readonly BuiltInAction[]> {
  const actions: BuiltInAction[] = [];
  if (settings.revocation_block_peer) {
    await checkBlocking();
    actions.push(blockingAction(ownAgentId, neverBlocked(settings.revocation_block_never), log));
  }
  if (settings.revocation_crl_ca_dir !== undefined) {
    const folder = { dir: settings.revocation_crl_ca_dir, password: settings.revocation_crl_ca_password };
    await checkCa(folder);
    actions.push(crlAction(folder, log));
  }
  return actions;
}

/** Blocks a revoked machine in nftables. A machine that is only out of reach is left alone. */
function blockingAction(ownAgentId: string, never: BlockList, log: Log): BuiltInAction {
  return async (notice) => {
    if (notice.type !== 'revocation') return;
    const address = peerToBlock(notice, ownAgentId, never);
    if (!address.ok) return log.info('The reported machine is not blocked', { problem: address.problem });
    log.info('Executing revocation action revocation_block_peer', { address: address.value });
    try {
      await blockPeer(address.value);
      log.info('The revoked machine is blocked', { address: address.value });
    } catch (cause) {
      log.error('The revoked machine cannot be blocked', { address: address.value, reason: cause });
    }
  };
}

/** Puts the certificate that came with a revoked machine's payload on the CRL of the CA that issued it. */
function crlAction(folder: CaFolder, log: Log): BuiltInAction {
  return async (notice) => {
    if (notice.type !== 'revocation') return;
    const { certificate } = notice;
    if (certificate === undefined) return log.info('The revoked machine has no certificate of a payload');
    log.info('Executing revocation action revocation_crl_ca_dir', certificate);
    try {
      const { added } = await revokeMachine(folder, certificate);
      log.info('The certificate of the revoked machine is on the CRL', { dir: folder.dir, added: added.join(' ') });
    } catch (cause) {
      log.error('The certificate of the revoked machine cannot be put on the CRL', { dir: folder.dir, reason: cause });
    }
  };
}

async function checkCa(folder: CaFolder): Promise<void> {
  try {
    await openCa(folder, await readCaCertificate(folder));
  } catch (cause) {
    if (!(cause instanceof PkiError)) throw cause;
    throw new AgentError(
      'action_unavailable',
      `revocation_crl_ca_dir: the CA in ${folder.dir} cannot be used: ${cause.message} Name the folder of keylime_ca, set revocation_crl_ca_password, and let the agent's user write there; or leave the option empty.`,
      { cause },
    );
  }
}
