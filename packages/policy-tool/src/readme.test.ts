import { test } from 'node:test';
import { assertReadmeExample } from '@keylime/testing/readme-example';

test('the example of the README does what it says', () => assertReadmeExample(import.meta.dirname));
