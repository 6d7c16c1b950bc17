import type { LayerEntry } from '../hash-task.ts';
import { resolveParents } from '../rooted-path.ts';

type Node =
  | { readonly kind: 'directory'; readonly children: Map<string, Node> }
  | { readonly kind: 'file'; readonly hex: string }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'other' };

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/** The root file system of an image, layer upon layer. Source: OCI image specification 1.1, layer.md. */
export class ImageTree {
  readonly #root = new Map<string, Node>();

  /**
   * Lays a layer over those before. Whiteouts remove what lower layers brought, wherever they stand in the layer. Returns
   * the paths of hard links that lead to no file.
   */
  add(layer: readonly LayerEntry[]): readonly string[] {
    for (const { path } of layer) this.#remove(`/${path}`);
    const broken: string[] = [];
    for (const entry of layer) {
      const path = `/${entry.path}`;
      if (nameOf(path).startsWith(WHITEOUT)) continue;
      switch (entry.type) {
        case 'directory':
          this.#directory(path);
          break;
        case 'file':
          this.#put(path, { kind: 'file', hex: entry.hex });
          break;
        case 'symbolic_link':
          this.#put(path, { kind: 'link', target: entry.target });
          break;
        case 'hard_link': {
          const target = this.#find(`/${entry.target}`);
          if (target === undefined || target.kind === 'directory') broken.push(path);
          else this.#put(path, target);
          break;
        }
        case 'other':
          this.#put(path, { kind: 'other' });
      }
    }
    return broken;
  }

  /** The regular files, by name. */
  *files(): Generator<readonly [path: string, hex: string]> {
    const waiting: (readonly [path: string, children: ReadonlyMap<string, Node>])[] = [['', this.#root]];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [path, children] = next;
      for (const [name, node] of [...children].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (node.kind === 'file') yield [`${path}/${name}`, node.hex];
        if (node.kind === 'directory') waiting.push([`${path}/${name}`, node.children]);
      }
    }
  }

  #remove(path: string): void {
    const parts = partsOf(this.#real(path));
    const name = parts.pop() ?? '';
    if (!name.startsWith(WHITEOUT)) return;
    const parent = this.#at(parts);
    if (parent?.kind !== 'directory') return;
    if (name === OPAQUE) parent.children.clear();
    else parent.children.delete(name.slice(WHITEOUT.length));
  }

  #put(path: string, node: Node): void {
    const parts = partsOf(this.#real(path));
    const name = parts.pop();
    if (name !== undefined) this.#children(parts).set(name, node);
  }

  /** A directory over a directory adds to it; over a link to one it replaces the link, as in any file system. */
  #directory(path: string): void {
    this.#children(partsOf(this.#real(path)));
  }

  #children(parts: readonly string[]): Map<string, Node> {
    let children = this.#root;
    for (const part of parts) {
      const known = children.get(part);
      const directory: Node = known?.kind === 'directory' ? known : { kind: 'directory', children: new Map() };
      children.set(part, directory);
      children = directory.children;
    }
    return children;
  }

  #find(path: string): Node | undefined {
    return this.#at(partsOf(this.#real(path)));
  }

  /** What is at a path of real directories. */
  #at(parts: readonly string[]): Node | undefined {
    let node: Node | undefined = { kind: 'directory', children: this.#root };
    for (const part of parts) node = node?.kind === 'directory' ? node.children.get(part) : undefined;
    return node;
  }

  /** The path with links in its directories followed; links that go in circles lead to the path as it is written. */
  #real(path: string): string {
    return resolveParents(path, (link) => this.#linkAt(link)) ?? path;
  }

  /** The resolution goes from the root down, so all directories above are real ones. */
  #linkAt(path: string): string | undefined {
    const node = this.#at(partsOf(path));
    return node?.kind === 'link' ? node.target : undefined;
  }
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');
const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
