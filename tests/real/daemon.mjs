// Starts jabsocket with a configuration and stops it with SIGTERM.

import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, temporaryDirectory } from './lib/process.mjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const binary = process.env.JABSOCKET ?? resolve(top, process.env.CARGO_TARGET_DIR ?? 'target', 'release', 'jabsocket');

/** Writes a configuration; the parameters are those of `startJabsocket`. */
export function configure(servers, { settings = '', port = 0 } = {}) {
  if (!existsSync(binary)) throw new Error(`there is no ${binary}: cargo build --release`);
  const directory = temporaryDirectory('daemon');
  const file = join(directory, 'jabsocket.conf');
  const domains = servers.map(({ domain, address, access = {} }) => {
    const keys = Object.entries({ name: domain, server: address, ...access });
    return `  - ${keys.map(([key, value]) => `${key}: ${value}\n`).join('    ')}`;
  }).join('');
  const text = `port: ${port}
listen: 127.0.0.1
log_level: LOG_DEBUG
resource: /xmpp-websocket
${settings}domains:
${domains}`;
  writeFileSync(file, text);
  return { binary, directory, file, text };
}

/**
 * `servers` come from startProsody and startEjabberd. Their `access` has further keys for
 * their entries in `domains`. `settings` has further lines of configuration. `port` 0
 * means a free port.
 */
export async function startJabsocket(servers, options) {
  const { directory, file, text } = configure(servers, options);
  const child = new Child('jabsocket', binary, ['-n', '-c', file], { cwd: directory });
  let port;
  try {
    [, port] = await child.waitForLine(/listening on .*:(\d+)/, { ms: 10_000 });
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return {
    binary,
    child,
    config: text,
    pid: child.pid,
    port,
    url: `ws://127.0.0.1:${port}/xmpp-websocket`,
    log: (count) => child.tail(count),
    /** Sends SIGTERM. Any exit status other than 0 is an error. */
    async stop() {
      const { code, signal } = await child.stop('SIGTERM', 20_000);
      if (code !== 0) throw new Error(`jabsocket ended with ${signal ?? `status ${code}`}\n${child.tail()}`);
    },
  };
}
