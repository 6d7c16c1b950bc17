import path from 'node:path';
import { test } from 'node:test';
import { assertReadmeExample } from '@keylime/testing/readme-example';

test('the example of the README does what it says', () =>
  assertReadmeExample(import.meta.dirname, {
    LOG: path.join(import.meta.dirname, '../../testing/vectors/debian12-secureboot-vm/bios.bin'),
  }));
