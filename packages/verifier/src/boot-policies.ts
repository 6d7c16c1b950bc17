import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  type BootFailure,
  type BootQuestion,
  type BootReference,
  type BootVerdict,
  judgedTooSlowly,
  policyFailed,
} from '@keylime/appraisal/boot-verdict';
import { type BootExpectation, referenceChecksum } from '@keylime/appraisal/measured-boot';
import { CodedError } from '@keylime/core/coded-error';
import { BOOT_PCRS } from '@keylime/measured-boot/boot-pcrs';
import { BUILT_IN_POLICIES } from '@keylime/measured-boot/built-in';
import { isEmptyReference } from '@keylime/measured-boot/empty-reference';
import type { ReferenceProblem } from '@keylime/measured-boot/policy';
import type { BootPolicyModules, BootPolicyNames, BootPolicyTask } from './boot-policy-worker.ts';
import { openThreadPool, type ThreadPool, ThreadPoolError } from './thread-pool.ts';

/** The measured-boot policies of this verifier, each in a thread of its own: one that hangs holds up nobody else. */
export type BootPolicies = {
  /** Whether there is a policy of this name. */
  readonly has: (rules: string) => boolean;
  /** What a boot is judged by; `undefined` where neither a policy is named nor a reference state says anything. */
  readonly expectation: (reference: GivenReference) => BootExpectation | undefined;
  /** What the policy that it is for has against a reference state, in words. @throws ThreadPoolError */
  readonly problems: (reference: GivenReference) => Promise<readonly string[]>;
  /** [MUST] One that takes too long is a failure of the boot. @throws ThreadPoolError if too many wait, or a thread of ours broke */
  readonly judge: (question: BootQuestion, asker: Asker) => Promise<BootVerdict>;
  /** The policy that judges where none is named, and the PCRs that it relies on. */
  readonly byDefault: { readonly rules: string; readonly pcrs: readonly number[] };
  readonly close: () => Promise<void>;
};

/** Whose evidence it is: that of strangers never takes the place of an agent's. */
export type Asker = 'agent' | 'stranger';

/** A reference state as JSON text, and the name of the policy that it is for, each if it was given. */
export type GivenReference = { readonly text: string | undefined; readonly rules: string | undefined };

export type BootPolicySettings = {
  /** Files with policies of the operator's, relative to `workDir`. */
  readonly imports: readonly string[];
  readonly workDir: string;
  /** The policy where none is named. */
  readonly defaultRules: string;
  readonly evaluate: 'once' | 'always';
  readonly timeoutMs: number;
};

/** The measured-boot policies cannot be had; the message says which, why, and what to do. */
export class BootPolicyError extends CodedError<'boot_policy_unusable'> {}

const LOAD_TIMEOUT_MS = 60_000;

/** Loads the policies, to see that all can be. @throws BootPolicyError */
export async function openBootPolicies(settings: BootPolicySettings): Promise<BootPolicies> {
  const modules = settings.imports.filter((file) => file !== '').map((file) => moduleUrl(file, settings.workDir));
  const ours = BUILT_IN_POLICIES.map(({ name, pcrs }) => [name, pcrs] as const);
  const known = new Map(modules.length === 0 ? ours : await listPolicies(modules));
  const { defaultRules, evaluate, timeoutMs } = settings;
  const defaultPcrs = known.get(defaultRules);
  if (defaultPcrs === undefined) {
    const names = [...known.keys()].join(', ');
    throw new BootPolicyError(
      'boot_policy_unusable',
      `measured_boot_policy_name: there is no policy '${defaultRules}'; there are ${names}`,
    );
  }
  const builtIn: ReadonlySet<string> = new Set(ours.map(([name]) => name));
  const isOfModule = (rules: string) => known.has(rules) && !builtIn.has(rules);
  const pools = new Map<string, ThreadPool<BootPolicyTask>>();
  // Modules, what they import, and this program may have changed since the last start: boots are judged anew.
  const edition = randomUUID();

  /** Ours share one. */
  function poolOf(rules: string, asker: Asker): ThreadPool<BootPolicyTask> {
    const isTheirs = isOfModule(rules);
    const key = `${asker}:${isTheirs ? rules : ''}`;
    const pool = pools.get(key) ?? openPool(isTheirs ? modules : [], { maxWaiting: isTheirs ? 64 : 768, timeoutMs });
    pools.set(key, pool);
    return pool;
  }

  const referenceOf = ({ text, rules }: GivenReference): BootReference | undefined => {
    const said = text === undefined || isEmptyReference(text) ? undefined : text;
    if (said === undefined && rules === undefined) return undefined;
    const name = rules ?? defaultRules;
    return { rules: name, text: said, checksum: referenceChecksum(name, said), edition };
  };

  /** What it means for a boot that a thread did not judge it; `undefined` where that is a fault of ours. */
  function failureOf(reference: BootReference, error: unknown): BootFailure | undefined {
    if (!(error instanceof ThreadPoolError) || error.code === 'pool_full') return undefined;
    if (isOfModule(reference.rules)) return policyFailed(reference, error.message);
    return error.code === 'task_timeout' ? judgedTooSlowly(reference, error.message) : undefined;
  }

  return {
    has: (rules) => known.has(rules),
    byDefault: { rules: defaultRules, pcrs: defaultPcrs },
    expectation(given) {
      const reference = referenceOf(given);
      // A policy that is not there refuses every boot, whatever it would have looked at.
      return reference && { reference, pcrs: known.get(reference.rules) ?? BOOT_PCRS, evaluate };
    },
    async problems(given) {
      const reference = referenceOf(given);
      if (reference === undefined) return [];
      const { rules } = reference;
      try {
        const found = await poolOf(rules, 'agent').run<readonly ReferenceProblem[]>({ kind: 'check', reference });
        return found.map(({ path: where, message }) => (where === '' ? message : `${where}: ${message}`));
      } catch (error) {
        if (error instanceof Error && failureOf(reference, error) !== undefined) {
          return [`measured-boot policy ${rules} failed: ${error.message}`];
        }
        throw error;
      }
    },
    async judge(question, asker) {
      const { reference } = question;
      try {
        return await poolOf(reference.rules, asker).run<BootVerdict>({ kind: 'judge', question });
      } catch (error) {
        const failure = failureOf(reference, error);
        if (failure === undefined) throw error;
        return { key: question.key, failures: [failure] };
      }
    },
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.close()));
    },
  };
}

const openPool = (modules: BootPolicyModules, limits: { readonly maxWaiting: number; readonly timeoutMs: number }) =>
  openThreadPool<BootPolicyTask>({
    script: new URL('./boot-policy-worker.ts', import.meta.url),
    data: modules,
    workers: 1,
    maxWaiting: limits.maxWaiting,
    taskTimeoutMs: limits.timeoutMs,
  });

async function listPolicies(modules: BootPolicyModules): Promise<BootPolicyNames> {
  const pool = openPool(modules, { maxWaiting: 1, timeoutMs: LOAD_TIMEOUT_MS });
  try {
    return await pool.run<BootPolicyNames>({ kind: 'list' });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new BootPolicyError(
      'boot_policy_unusable',
      `measured_boot_imports: the policies cannot be loaded: ${why}. It names files with JavaScript or TypeScript modules; Python modules are not loaded here.`,
      { cause: error },
    );
  } finally {
    await pool.close();
  }
}

const moduleUrl = (file: string, workDir: string): string => pathToFileURL(path.resolve(workDir, file)).href;
