import type { BlockList } from 'node:net';
import { type CaFolder, openCa, readCaCertificate } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { revokeMachine } from '@keylime/pki/revocation';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import { blockPeer, checkBlocking, neverBlocked, peerToBlock } from './block-peer.ts';
import type { RevocationNotice } from './revocation-notice.ts';

/** `retry`: it was not possible, and may be later. `done`: there is nothing left to do. */
export type BuiltInEnd = 'done' | 'retry';

/** Something that this program itself does about a reported machine. */
export type BuiltInAction = {
  /** The option that switches it on. */
  readonly name: string;
  /** Tells in the log what came of it. Done twice it changes nothing. */
  readonly act: (notice: RevocationNotice) => Promise<BuiltInEnd>;
};

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
  const name = 'revocation_block_peer';
  return {
    name,
    async act(notice) {
      if (notice.type !== 'revocation') return 'done';
      const address = peerToBlock(notice, ownAgentId, never);
      if (!address.ok) {
        log.info('The reported machine is not blocked', { problem: address.problem });
        return 'done';
      }
      log.info(`Executing revocation action ${name}`, { address: address.value });
      try {
        await blockPeer(address.value);
      } catch (cause) {
        log.error('The revoked machine cannot be blocked: it is tried again', {
          address: address.value,
          reason: cause,
        });
        return 'retry';
      }
      log.info('The revoked machine is blocked', { address: address.value });
      return 'done';
    },
  };
}

/** Puts the certificate that came with a revoked machine's payload on the CRL of the CA that issued it. */
function crlAction(folder: CaFolder, log: Log): BuiltInAction {
  const name = 'revocation_crl_ca_dir';
  const { dir } = folder;
  return {
    name,
    async act({ type, certificate }) {
      if (type !== 'revocation') return 'done';
      if (certificate === undefined) {
        log.info('The revoked machine has no certificate of a payload');
        return 'done';
      }
      log.info(`Executing revocation action ${name}`, certificate);
      try {
        const { added } = await revokeMachine(folder, certificate);
        log.info('The certificate of the revoked machine is on the CRL', { dir, added: added.join(' ') });
        return 'done';
      } catch (cause) {
        const isHopeless = cause instanceof PkiError && NEVER_ON_THIS_CRL.includes(cause.code);
        const event = 'The certificate of the revoked machine cannot be put on the CRL';
        log.error(isHopeless ? event : `${event}: it is tried again`, { dir, reason: cause });
        return isHopeless ? 'done' : 'retry';
      }
    },
  };
}

/** The certificate is none of this CA's: trying again does not help. */
const NEVER_ON_THIS_CRL: readonly string[] = ['invalid_serial', 'subject_mismatch'];

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
