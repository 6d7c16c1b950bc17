import { DIGEST_SIZES, type HashAlgorithm, isHashAlgorithm } from '@keylime/core/digest';
import { BUILT_IN_POLICIES } from '@keylime/measured-boot/built-in';
import type { MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import { UNLISTED_KINDS, type UnlistedKind } from '@keylime/measured-boot/reference-json';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CreateOptions } from '../measured-boot/create-measured-boot.ts';
import { OPTIONAL_REQUIREMENTS, type OptionalRequirement } from '../measured-boot/reference-state.ts';

/** The policies whose reference states can be made. */
const POLICIES: ReadonlyMap<string, MeasuredBootPolicy> = new Map(
  BUILT_IN_POLICIES.filter(({ name }) => name === 'strict' || name === 'example').map((policy) => [
    policy.name,
    policy,
  ]),
);

/** Options that say which reference state is made, of `create measured-boot` and of `predict`. */
export type ReferenceCommandOptions = {
  readonly policy: MeasuredBootPolicy;
  readonly hashAlg: readonly HashAlgorithm[];
  readonly unlisted?: readonly UnlistedKind[];
  readonly list?: readonly number[];
  readonly optional?: readonly OptionalRequirement[];
  readonly force?: boolean;
};

/** What `createMeasuredBoot` is to do, but for what each command decides itself. */
export const readReferenceOptions = ({
  policy,
  hashAlg,
  unlisted = [],
  list = [],
  optional = [],
  force = false,
}: ReferenceCommandOptions): Omit<CreateOptions, 'base' | 'withoutSecureBoot'> => ({
  policy,
  banks: hashAlg,
  unlisted,
  listed: list,
  optional,
  force,
});

/** The options of `ReferenceCommandOptions`. */
export function referenceOptions(to: Command): Command {
  return to
    .addOption(
      new Option('--policy <name>', 'policy that the reference state is for')
        .argParser(policyByName)
        .default(POLICIES.get('strict'), 'strict'),
    )
    .addOption(
      new Option('--hash-alg <algorithm>', 'bank that machines quote (repeatable)')
        .argParser(anotherBank)
        .default(DEFAULT_BANKS, 'sha256'),
    )
    .option('--unlisted <kind>', `events that may differ: ${UNLISTED_KINDS.join(', ')} (repeatable)`, anotherKind)
    .option('--list <index>', 'take an event by its digest that no rule accepts (repeatable)', anotherIndex)
    .option(
      '--optional <requirement>',
      `what a boot need not have: ${OPTIONAL_REQUIREMENTS.join(', ')} (repeatable)`,
      anotherOptional,
    )
    .option('--force', 'write a reference state by which the policy refuses the boot that it is of');
}

function policyByName(name: string): MeasuredBootPolicy {
  const policy = POLICIES.get(name);
  if (policy !== undefined) return policy;
  throw new InvalidArgumentError(`One of ${[...POLICIES.keys()].join(', ')} is wanted.`);
}

/** The bank that is taken where none is named. */
const DEFAULT_BANKS: readonly HashAlgorithm[] = ['sha256'];

function anotherBank(name: string, before: readonly HashAlgorithm[]): readonly HashAlgorithm[] {
  if (!isHashAlgorithm(name)) {
    throw new InvalidArgumentError(`One of ${Object.keys(DIGEST_SIZES).join(', ')} is wanted.`);
  }
  return before === DEFAULT_BANKS ? [name] : [...before, name];
}

const anotherKind = oneMoreOf<UnlistedKind>(UNLISTED_KINDS);
const anotherOptional = oneMoreOf<OptionalRequirement>(OPTIONAL_REQUIREMENTS);

/** Collects values of an option that are among `choices`. */
function oneMoreOf<T extends string>(choices: readonly T[]) {
  return (text: string, before: readonly T[] = []): readonly T[] => {
    const choice = choices.find((each) => each === text);
    if (choice === undefined) throw new InvalidArgumentError(`One of ${choices.join(', ')} is wanted.`);
    return [...before, choice];
  };
}

function anotherIndex(text: string, before: readonly number[] = []): readonly number[] {
  if (/^\d{1,5}$/.test(text)) return [...before, Number(text)];
  throw new InvalidArgumentError('The index of an event is wanted, as `show event-log` has it.');
}
