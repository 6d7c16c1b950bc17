import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadsWith } from './grub-command.ts';

test('a command loads a kernel with what stands behind its name, however GRUB quotes it', () => {
  assert.equal(loadsWith('linux /vmlinuz root=/dev/vda1 quiet', '/vmlinuz root=/dev/vda1 quiet'), true);
  assert.equal(loadsWith('linuxefi /vmlinuz a', '/vmlinuz a'), true);
  assert.equal(loadsWith('linux16 /vmlinuz a', '/vmlinuz a'), true);
  assert.equal(loadsWith('linux /vmlinuz dm=1 vroot none ro', '/vmlinuz "dm=1 vroot none ro"'), true);
});

test('no other command does, nor one with another command line', () => {
  for (const command of [
    '',
    '/vmlinuz a',
    'linux',
    'linux /vmlinuz',
    'linux /vmlinuz a b',
    'set /vmlinuz a',
    'linuxes /vmlinuz a',
  ]) {
    assert.equal(loadsWith(command, '/vmlinuz a'), false, command);
  }
});
