import { isJsonObject, type Json } from '@keylime/core/json';

/**
 * The failures in a verifier's record, each as one line for people: what it is, where in the measurement list, and what
 * is known about path and digest. A verifier that does not tell failures has none.
 */
export function failureLines(record: { readonly [key: string]: Json }): readonly string[] {
  const failures = record.last_failures;
  return Array.isArray(failures) ? failures.filter(isJsonObject).map(failureLine) : [];
}

function failureLine({ event_id: event, context }: { readonly [key: string]: Json }): string {
  const about = isJsonObject(context) ? context : {};
  const parts = [
    about.message === undefined ? '' : text(about.message),
    placeOf(about),
    about.first_index === undefined ? '' : `first seen at entry ${text(about.first_index)}`,
    about.judged_from === undefined ? '' : `entries before ${text(about.judged_from)} were judged earlier`,
    about.got === undefined ? '' : `found ${text(about.got)}`,
    about.got_package === undefined ? '' : `which is of ${text(about.got_package)}`,
    about.expected === undefined || about.expected === null
      ? ''
      : `expected ${list(about.expected, ' or ', about.expected_more)}`,
    about.expected_packages === undefined ? '' : `of ${list(about.expected_packages, ' or ')}`,
    about.listed_for === undefined
      ? ''
      : `the digest found is listed for ${list(about.listed_for, ', ', about.listed_for_more)}`,
    about.signature === undefined ? '' : `signature: ${text(about.signature).replaceAll('_', ' ')}`,
    about.key_id === undefined ? '' : `key ${text(about.key_id)}`,
    about.key_serial === undefined ? '' : `certificate ${text(about.key_serial)}`,
    about.more_failures === undefined ? '' : `and ${text(about.more_failures)} more failures`,
  ];
  return `${text(event)}: ${parts.filter((part) => part !== '').join('; ')}`;
}

/** Of a measurement list its entry and template; of a boot log its event, type and PCR. */
function placeOf({ index, template, pcr, event_type: type }: { readonly [key: string]: Json }): string {
  if (pcr === undefined)
    return index === undefined ? '' : `entry ${text(index)}${template ? `, ${text(template)}` : ''}`;
  const event = index === undefined ? [] : [`event ${text(index)}`];
  return [...event, ...(type === undefined ? [] : [text(type)]), `PCR ${text(pcr)}`].join(', ');
}

const text = (value: Json | undefined): string => (typeof value === 'string' ? value : JSON.stringify(value ?? null));

const MOST = 3;

/** The first few of a list, of which the verifier may have left out `more`. */
function list(value: Json, between: string, leftOut: Json = 0): string {
  if (!Array.isArray(value)) return text(value);
  const more = value.length - Math.min(value.length, MOST) + Number(leftOut);
  return value.slice(0, MOST).map(text).join(between) + (more > 0 ? ` and ${more} more` : '');
}
