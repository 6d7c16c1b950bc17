import { hintData } from '@keylime/event-log/coverage';
import { ToolError } from '../tool-error.ts';
import type { BootChain, BootImage, ImageRole } from './boot-chain.ts';
import type { EventView } from './event-view.ts';
import type { KernelUpdate } from './kernel-update.ts';
import { changeEvent, hasDigest, hashOf, type LogEdit } from './log-edit.ts';
import { authenticodeDigest, type PeImage } from './pe-image.ts';

/** What is measured of images as they start (PCR 4), and of files as GRUB or Linux's stub reads them (PCR 9). */
export function predictFiles(edit: LogEdit, views: readonly EventView[], chain: BootChain, update: KernelUpdate): void {
  const { shim, bootLoader, kernel, kernelPath, initrds, initrdPaths, grubFiles } = update;
  if (shim !== undefined) {
    changeImages(edit, chain, 'shim', shim);
    edit.notes.push(
      'PCR 7 has what shim demands and whose certificate let it start: a new shim can change it. A signer that authorities of the reference state do not have is refused',
    );
  }
  if (bootLoader !== undefined) changeImages(edit, chain, 'boot_loader', bootLoader);
  if (kernel !== undefined) {
    if (chain.kernelFiles.length === 0 || hasImage(chain, 'kernel')) changeImages(edit, chain, 'kernel', kernel);
    for (const { event } of chain.kernelFiles) {
      const path = kernelPath ?? pathOf(event);
      changeEvent(edit, event, `file ${path}`, hashOf(kernel.bytes), Buffer.from(`${path}\0`));
    }
  }
  if (initrds.length > 0) changeInitrds(edit, chain, initrds, initrdPaths);
  for (const [path, content] of grubFiles) {
    const found = views.filter(({ event }) => pathOf(event) === path);
    if (found.length === 0) throw new ToolError('usage', `The log shows no file ${path} that GRUB read`);
    for (const { event } of found) changeEvent(edit, event, `file ${path}`, hashOf(content));
  }
}

const hasImage = (chain: BootChain, role: ImageRole): boolean => chain.images.some((image) => image.role === role);

/** An image can be loaded twice, by shim and by GRUB; two different ones have to be told apart by somebody else. */
function changeImages(edit: LogEdit, chain: BootChain, role: ImageRole, image: PeImage): void {
  const images = chain.images.filter((each) => each.role === role);
  const words = role.replace('_', ' ');
  const different = new Set(images.map(({ event }) => JSON.stringify([...event.event.digests])));
  if (different.size !== 1) {
    const found = images.map((each) => `event ${each.event.event.index}`).join(', ') || 'none';
    throw new ToolError(
      'log_unsuitable',
      `The log must show one ${words} to put the new one in its place; it shows ${found}`,
    );
  }
  for (const each of images)
    changeEvent(edit, each.event.event, imageWords(each), (bank) => authenticodeDigest(image, bank));
}

const imageWords = ({ role, path }: BootImage): string => `${role.replace('_', ' ')}${path === '' ? '' : ` ${path}`}`;

function pathOf(event: EventView['event']): string | undefined {
  const data = hintData(event);
  return data.kind === 'file' ? data.path : undefined;
}

function changeInitrds(
  edit: LogEdit,
  { initrdFiles, stubInitrds }: BootChain,
  initrds: readonly Buffer[],
  paths: readonly string[],
): void {
  if (initrdFiles.length === 0 && stubInitrds.length === 0) {
    throw new ToolError('log_unsuitable', 'The log shows no initrd to put the new one in the place of');
  }
  if (initrdFiles.length > 0 && initrdFiles.length !== initrds.length) {
    const given = `${initrds.length} given`;
    throw new ToolError(
      'usage',
      `GRUB reads ${initrdFiles.length} initrds, ${given}: name all of them, in the order of GRUB`,
    );
  }
  for (const [i, { event }] of initrdFiles.entries()) {
    const [initrd = Buffer.alloc(0), path = paths[i] ?? pathOf(event)] = [initrds[i]];
    changeEvent(edit, event, `file ${path}`, hashOf(initrd), Buffer.from(`${path}\0`));
  }
  const [only] = initrds;
  for (const { event } of stubInitrds) {
    // What the stub gets of several files, and of one that a loader adds to, is not those files.
    const file = initrdFiles[0]?.event;
    const isFile =
      file === undefined || Array.from(file.digests).every(([bank, hex]) => event.digests.get(bank) === hex);
    if (only !== undefined && initrds.length === 1 && isFile)
      changeEvent(edit, event, "initrd, by Linux's stub", hashOf(only));
    else if (!initrds.some((initrd) => hasDigest(event, hashOf(initrd)))) {
      edit.unknown.set(9, 'the loader passes several initrds as one: what Linux measures of it cannot be told');
    }
  }
}
