#!/usr/bin/env node
import '@keylime/service/require-node';

await import('../src/main.ts');
