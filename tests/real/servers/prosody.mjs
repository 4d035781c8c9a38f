// A Prosody of our own on loopback: plain TCP, its data in a temporary directory.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, freePort, temporaryDirectory, waitForPort } from '../lib/process.mjs';

export const USERS = { romeo: 'wherefore-art-thou', juliet: 'a-rose-by-any-name' };

export async function startProsody({ domain = 'prosody.example' } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(domain);
    } catch (error) {
      // Another process may have taken a port in the meantime.
      if (attempt === 3) throw error;
    }
  }
}

async function start(domain) {
  const directory = temporaryDirectory('prosody');
  const port = await freePort();
  const httpPort = await freePort();
  const config = join(directory, 'prosody.cfg.lua');
  writeFileSync(config, `
run_as_root = true
pidfile = "${directory}/prosody.pid"
data_path = "${directory}/data"
log = { info = "*console" }
daemonize = false
interfaces = { "127.0.0.1" }
c2s_ports = { ${port} }
c2s_direct_tls_ports = {}
http_interfaces = { "127.0.0.1" }
http_ports = { ${httpPort} }
https_ports = {}
modules_disabled = { "s2s", "tls" }
modules_enabled = {
  "roster", "saslauth", "disco", "ping", "blocklist", "carbons", "smacks", "offline",
  "pep", "private", "vcard4", "vcard_legacy", "time", "uptime", "version", "websocket"
}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
consider_websocket_secure = true
http_default_host = "${domain}"
smacks_hibernation_time = 600
VirtualHost "${domain}"
`);
  const accounts = join(directory, 'data', encode(domain), 'accounts');
  mkdirSync(accounts, { recursive: true });
  for (const [user, password] of Object.entries(USERS)) {
    writeFileSync(join(accounts, `${user}.dat`), `return { ["password"] = "${password}"; };\n`);
  }
  const child = new Child('prosody', 'prosody', ['--config', config, '-F'], { cwd: directory });
  try {
    await child.waitForLine(new RegExp(`Activated service 'c2s' on .*:${port}\\b`));
    await waitForPort(port);
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return {
    name: 'Prosody',
    domain,
    users: USERS,
    port,
    address: `127.0.0.1:${port}`,
    ownWebSocket: `ws://127.0.0.1:${httpPort}/xmpp-websocket`,
    log: () => child.tail(),
    stop: () => child.stop(),
  };
}

/** A domain as Prosody writes it in a path. */
function encode(domain) {
  return domain.replace(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
