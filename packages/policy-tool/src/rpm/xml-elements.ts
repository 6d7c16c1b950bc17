import { SaxesParser } from 'saxes';
import { reason, ToolError } from '../tool-error.ts';

/** An element with all that is in it, by local names. */
export type XmlElement = {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Text directly in the element. */
  readonly text: string;
};

type OpenElement = { name: string; attributes: Map<string, string>; children: XmlElement[]; text: string };

/**
 * The elements called `name` directly below the root, one at a time, of a document that may be large. Entities beyond the
 * five of XML are not known, so that no document grows when it is read.
 * @throws ToolError `repository_invalid`
 */
export async function* xmlElements(source: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<XmlElement> {
  const parser = new SaxesParser({ xmlns: true });
  const open: OpenElement[] = [];
  let depth = 0;
  let finished: XmlElement[] = [];
  parser.on('error', (error) => {
    throw error;
  });
  parser.on('opentag', ({ local, attributes }) => {
    if (open.length > 0 || (depth === 1 && local === name)) {
      const named = Object.values(attributes).map((one): [string, string] => [one.local, one.value]);
      open.push({ name: local, attributes: new Map(named), children: [], text: '' });
    }
    depth++;
  });
  parser.on('text', (text) => {
    const element = open.at(-1);
    if (element) element.text += text;
  });
  parser.on('closetag', () => {
    depth--;
    const element = open.pop();
    if (element === undefined) return;
    const parent = open.at(-1);
    if (parent) parent.children.push(element);
    else finished.push(element);
  });
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const give = (work: () => void): XmlElement[] => {
    try {
      work();
    } catch (cause) {
      throw new ToolError('repository_invalid', `The XML of the repository cannot be read: ${reason(cause)}`, {
        cause,
      });
    }
    const given = finished;
    finished = [];
    return given;
  };
  for await (const chunk of source) yield* give(() => parser.write(decoder.decode(chunk, { stream: true })));
  yield* give(() => parser.write(decoder.decode()).close());
}

/** The first child of that name. */
export const childOf = (element: XmlElement, name: string): XmlElement | undefined =>
  element.children.find((child) => child.name === name);
