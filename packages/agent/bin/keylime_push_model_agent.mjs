#!/usr/bin/env node
import '@keylime/service/require-node';

// The existing push agent is a program of its own; here it is the agent with this setting.
process.env.KEYLIME_AGENT_MODE = 'push';
await import('../src/main.ts');
