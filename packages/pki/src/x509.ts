// @peculiar/x509 builds on a container that needs this polyfill to be loaded first.
import 'reflect-metadata';

export * from '@peculiar/x509';
