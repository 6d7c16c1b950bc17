import { userInfo } from 'node:os';
import { codeOf } from '@keylime/core/coded-error';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';

/** The calls of the system that change who a process is, as node:process has them on POSIX systems. */
export type Credentials = {
  readonly getuid: () => number;
  readonly geteuid: () => number;
  readonly getgid: () => number;
  readonly getegid: () => number;
  readonly initgroups: (user: string | number, extraGroup: string | number) => void;
  readonly setgid: (group: string | number) => void;
  readonly setuid: (user: string | number) => void;
  readonly userName: () => string;
};

/** The credentials of this process, or `undefined` on a system that has none. */
export function processCredentials(): Credentials | undefined {
  // @types/node leaves `initgroups` out.
  const { getuid, geteuid, getgid, getegid, initgroups, setgid, setuid } = process as Partial<Credentials>;
  if (!getuid || !geteuid || !getgid || !getegid || !initgroups || !setgid || !setuid) return undefined;
  return { getuid, geteuid, getgid, getegid, initgroups, setgid, setuid, userName: () => userInfo().username };
}

/**
 * Becomes the user and group of `run_as` (`user:group`) for good. [MUST] The order is: supplementary groups, group, user;
 * then it is checked that the process is that user and cannot become root again (spec 07 section 8.2).
 * @throws AgentError `privileges` if the user or group does not exist or any step or check fails.
 */
export function dropPrivileges(runAs: string, credentials: Credentials): void {
  const [user = '', group = ''] = runAs.split(':');
  const who = (name: string) => (/^\d+$/.test(name) ? Number(name) : name);
  const step = (what: string, change: () => void) => {
    try {
      change();
    } catch (cause) {
      const unknown = codeOf(cause) === 'ERR_UNKNOWN_CREDENTIAL';
      const why = unknown ? 'there is no such user or group' : cause instanceof Error ? cause.message : String(cause);
      throw new AgentError(
        'privileges',
        `run_as = "${runAs}": ${what} failed: ${why}. Create the user and group (useradd --system --gid ${group} ${user}), name others, or set run_as = "" to stay root.`,
        { cause },
      );
    }
  };
  step('initgroups', () => credentials.initgroups(who(user), who(group)));
  step('setgid', () => credentials.setgid(who(group)));
  step('setuid', () => credentials.setuid(who(user)));

  const { getuid, geteuid, getgid, getegid, setuid, userName } = credentials;
  const uid = getuid();
  const isUser = typeof who(user) === 'number' ? uid === who(user) : uid === 0 ? user === 'root' : userName() === user;
  if (uid !== geteuid() || getgid() !== getegid() || !isUser) {
    throw new AgentError('privileges', `run_as = "${runAs}": the process did not become that user.`);
  }
  if (uid === 0) return;
  try {
    setuid(0);
  } catch {
    return;
  }
  throw new AgentError('privileges', `run_as = "${runAs}": the process could become root again.`);
}

/** Does what `run_as` says, as far as it applies to this process. @throws AgentError `privileges` */
export function becomeUser(runAs: string, credentials: Credentials | undefined, log: Log): void {
  if (credentials === undefined) return;
  if (credentials.geteuid() !== 0) {
    if (runAs !== '') log.warn('run_as has no effect: the agent was not started as root', { runAs });
  } else if (runAs === '') {
    log.warn('run_as is empty: the agent stays root');
  } else {
    dropPrivileges(runAs, credentials);
    log.info('Privileges dropped', { runAs });
  }
}
