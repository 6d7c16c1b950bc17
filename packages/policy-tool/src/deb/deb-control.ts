/** One paragraph of a Debian control file: values by field name, lines of long ones joined with newlines. */
export type Paragraph = ReadonlyMap<string, string>;

/** The paragraphs of a control file, one at a time; lines that are none are passed over. Source: deb822(5). */
export function* paragraphs(text: string): Generator<Paragraph> {
  let fields = new Map<string, string>();
  let last: string | undefined;
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(start, end).trimEnd();
    start = end + 1;
    if (line === '') {
      if (fields.size > 0) yield fields;
      fields = new Map();
      last = undefined;
    } else if (line.startsWith(' ') || line.startsWith('\t')) {
      if (last !== undefined) fields.set(last, `${fields.get(last)}\n${line.slice(1)}`);
    } else {
      const colon = line.indexOf(':');
      if (colon < 1) continue;
      last = line.slice(0, colon).toLowerCase();
      fields.set(last, line.slice(colon + 1).trim());
    }
  }
  if (fields.size > 0) yield fields;
}
