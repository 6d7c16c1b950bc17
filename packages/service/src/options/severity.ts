import { isJsonObject } from '@keylime/core/json';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, literal, type Option, type Reading } from '../options.ts';

/** One rule of the severity policy; `event_id` is anchored: it must match a whole event id. */
export type SeverityRule = { readonly event_id: RegExp; readonly severity_label: string };

export const severityLabels: Option<NonEmpty<string>> = literal(
  'list of texts',
  '["info", "notice", "warning", "error", "critical", "alert", "emergency"]',
  'Severity labels, lowest first. The position is the severity level.',
  (value) =>
    Array.isArray(value) && isNonEmpty(value) && value.every((label) => typeof label === 'string' && label !== '')
      ? new Set(value).size === value.length
        ? good(value as unknown as NonEmpty<string>)
        : bad('a label is there twice')
      : bad("expected a list of texts like ['info', 'emergency'], not empty"),
);

export const severityPolicy: Option<NonEmpty<SeverityRule>> = literal(
  'list of `{"event_id": REGEX, "severity_label": LABEL}`',
  '[{"event_id": ".*", "severity_label": "emergency"}]',
  'Severity of a failure by its event id: the first rule whose regular expression matches the whole id counts. No rule or an unknown label means the highest label.',
  (value) => {
    if (!Array.isArray(value) || value.length === 0) return bad('expected a list of rules, not empty');
    const rules: SeverityRule[] = [];
    for (const [index, rule] of value.entries()) {
      const reading = readRule(rule);
      if (!reading.ok) return bad(`rule ${index + 1}: ${reading.problem}`);
      rules.push(reading.value);
    }
    return isNonEmpty(rules) ? good(rules) : bad('expected a list of rules, not empty');
  },
);

function readRule(rule: unknown): Reading<SeverityRule> {
  if (!isJsonObject(rule)) return bad('expected {"event_id": "...", "severity_label": "..."}');
  const { event_id: pattern, severity_label: label, ...rest } = rule;
  if (typeof pattern !== 'string') return bad('"event_id" must be a text');
  if (typeof label !== 'string') return bad('"severity_label" must be a text');
  const more = Object.keys(rest)[0];
  if (more !== undefined) return bad(`unknown key "${more}"`);
  const regex = fullMatch(pattern);
  return regex.ok ? good({ event_id: regex.value, severity_label: label }) : regex;
}

/** `pattern`, a regular expression as Python's `re.fullmatch` takes it, for JavaScript; what differs is refused. */
export function fullMatch(pattern: string): Reading<RegExp> {
  if (/\{,\d/.test(pattern)) return bad(`"${pattern}": write {0,n} for {,n}`);
  const translated = pattern.replace(/\\(.)|\(\?P<|\(\?P=(\w+)\)/gs, (whole, escaped, name) => {
    if (escaped === 'A') return '^';
    if (escaped === 'Z') return '$';
    if (escaped !== undefined) return whole;
    return name === undefined ? '(?<' : `\\k<${name}>`;
  });
  try {
    return good(new RegExp(`^(?:${translated})$`));
  } catch {
    return bad(`"${pattern}" is not a regular expression that is supported here`);
  }
}
