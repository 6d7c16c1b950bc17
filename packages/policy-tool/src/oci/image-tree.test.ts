import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LayerEntry } from '../hash-task.ts';
import { ImageTree } from './image-tree.ts';

const file = (path: string, hex = path): LayerEntry => ({ path, type: 'file', hex });
const link = (path: string, target: string): LayerEntry => ({ path, type: 'symbolic_link', target });
const hardLink = (path: string, target: string): LayerEntry => ({ path, type: 'hard_link', target });
const directory = (path: string): LayerEntry => ({ path, type: 'directory' });

function filesOf(...layers: readonly (readonly LayerEntry[])[]): readonly string[] {
  const tree = new ImageTree();
  for (const layer of layers) tree.add(layer);
  return [...tree.files()].map(([path, hex]) => `${path}=${hex}`).sort();
}

for (const [what, layers, files] of [
  ['a later layer replaces a file', [[file('a', '1')], [file('a', '2')]], ['/a=2']],
  [
    'a whiteout removes a file of a lower layer, and none of its own',
    [[file('a', '1')], [file('.wh.a'), file('a', '2')]],
    ['/a=2'],
  ],
  ['a whiteout removes a directory', [[file('d/a'), file('d/b'), file('e')], [file('.wh.d')]], ['/e=e']],
  [
    'an opaque directory hides all below it',
    [
      [file('d/a'), file('d/e/b')],
      [file('d/c'), file('d/.wh..wh..opq')],
    ],
    ['/d/c=d/c'],
  ],
  ['a whiteout of nothing does nothing', [[file('a')], [file('.wh.b'), file('x/.wh.y')]], ['/a=a']],
  ['a whiteout finds its file through a link', [[link('lib', 'usr/lib'), file('usr/lib/a')], [file('lib/.wh.a')]], []],
  [
    'a file written through a link lies where the link leads',
    [[link('lib', 'usr/lib')], [file('lib/a')]],
    ['/usr/lib/a=lib/a'],
  ],
  [
    'a link that leads out of the image leads to its root',
    [[link('up', '../../etc')], [file('up/a')]],
    ['/etc/a=up/a'],
  ],
  [
    'a directory replaces a link',
    [
      [link('d', 'e'), file('e/a')],
      [directory('d'), file('d/b')],
    ],
    ['/d/b=d/b', '/e/a=e/a'],
  ],
  ['a file replaces a directory', [[file('d/a')], [file('d')]], ['/d=d']],
  ['a link replaces a file', [[file('a')], [link('a', 'b')]], []],
  [
    'a hard link has the content of a lower layer',
    [[file('a', '1')], [hardLink('b', 'a')], [file('a', '2')]],
    ['/a=2', '/b=1'],
  ],
  ['links in circles do no harm', [[link('a', 'b'), link('b', 'a')], [file('a/x')]], ['/a/x=a/x']],
] as const) {
  test(what, () => assert.deepEqual(filesOf(...layers), files));
}

test('a hard link to nothing is told', () => {
  assert.deepEqual(new ImageTree().add([hardLink('a', 'b'), directory('d'), hardLink('c', 'd')]), ['/a', '/c']);
});
