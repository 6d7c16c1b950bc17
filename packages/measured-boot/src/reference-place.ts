import type { NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import type { ReferenceProblem } from './policy.ts';

const MOST_PROBLEMS = 100;

/**
 * A value of a reference state and the path to it. Reading goes on after a problem, with something empty, so that all
 * problems are found; what was read counts only if there were none.
 */
export class ReferencePlace {
  readonly json: unknown;
  readonly path: string;
  readonly #problems: ReferenceProblem[];

  constructor(json: unknown, path: string, problems: ReferenceProblem[]) {
    this.json = json;
    this.path = path;
    this.#problems = problems;
  }

  refuse(message: string): void {
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push({ path: this.path, message });
  }

  get isThere(): boolean {
    return this.json !== undefined;
  }

  /** All members, the object's own. */
  members(): readonly (readonly [name: string, place: ReferencePlace])[] {
    return Object.keys(this.#object()).map((name) => [name, this.member(name)]);
  }

  member(name: string): ReferencePlace {
    const object = this.#object();
    const json = Object.hasOwn(object, name) ? object[name] : undefined;
    return new ReferencePlace(json, this.path === '' ? name : `${this.path}.${name}`, this.#problems);
  }

  /** Refuses every member with another name, since a rule that is not understood would not be kept. */
  onlyMembers(names: readonly string[]): void {
    for (const [name, place] of this.members()) {
      if (!names.includes(name)) place.refuse(`no such member; there are ${names.join(', ')}`);
    }
  }

  items(): readonly ReferencePlace[] {
    if (!Array.isArray(this.json)) {
      this.refuse(this.isThere ? 'must be a list' : 'is missing: a list is wanted');
      return [];
    }
    return this.json.map((item: unknown, i) => new ReferencePlace(item, `${this.path}[${i}]`, this.#problems));
  }

  /** A list of which one entry has to fit. An empty one would accept no boot, and is a mistake. */
  alternatives(): readonly ReferencePlace[] {
    const items = this.items();
    if (Array.isArray(this.json) && items.length === 0) this.refuse('must have at least one entry');
    return items;
  }

  text(): string {
    if (typeof this.json === 'string') return this.json;
    this.refuse(this.isThere ? 'must be text' : 'is missing: text is wanted');
    return '';
  }

  /** Text that `pattern` matches; `wanted` says of what kind it is. */
  matching(pattern: RegExp, wanted: string): string {
    if (typeof this.json === 'string' && pattern.test(this.json)) return this.json;
    this.refuse(this.isThere ? `must be ${wanted}` : `is missing: ${wanted} is wanted`);
    return '';
  }

  /** `otherwise` where the member is absent. */
  boolean(otherwise: boolean): boolean {
    if (typeof this.json === 'boolean') return this.json;
    if (this.isThere) this.refuse('must be true or false');
    return otherwise;
  }

  /** `otherwise` where the member is absent. */
  oneOf<T extends string>(words: readonly T[], otherwise: T): T {
    const found = words.find((word) => word === this.json);
    if (found === undefined && this.isThere) this.refuse(`must be one of ${words.join(', ')}`);
    return found ?? otherwise;
  }

  #object(): { readonly [name: string]: unknown } {
    if (typeof this.json === 'object' && this.json !== null && !Array.isArray(this.json)) {
      return this.json as { readonly [name: string]: unknown };
    }
    return {};
  }

  /** Whether it is a JSON object; refuses anything else. */
  requireObject(): boolean {
    const isObject = typeof this.json === 'object' && this.json !== null && !Array.isArray(this.json);
    if (!isObject) this.refuse(this.isThere ? 'must be an object' : 'is missing: an object is wanted');
    return isObject;
  }
}

/** What `read` makes of a reference state, if it refuses nothing. */
export function readReference<T>(
  json: unknown,
  read: (root: ReferencePlace) => T,
): Parsed<T, NonEmpty<ReferenceProblem>> {
  const problems: ReferenceProblem[] = [];
  const root = new ReferencePlace(json, '', problems);
  if (!root.isThere) root.refuse('a reference state is wanted: `keylime-policy create measured-boot` makes one');
  else if (root.requireObject()) {
    const value = read(root);
    if (problems.length === 0) return good(value);
  }
  const [first = { path: '', message: 'it cannot be read' }, ...others] = problems;
  return bad([first, ...others]);
}
