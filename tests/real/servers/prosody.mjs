// Starts Prosody on loopback with its data in a temporary directory: with plain TCP or,
// with certificates, only with TLS.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, freePort, temporaryDirectory, waitForPort } from '../lib/process.mjs';

export const USERS = { romeo: 'wherefore-art-thou', juliet: 'a-rose-by-any-name' };

/**
 * `tls` has the certificate and key of each domain; direct TLS uses the first. Without
 * `tls`, `domain` is served in plain text. `authentication`: with plain passwords (the
 * default), the SCRAM keys change with each login.
 */
export async function startProsody({ domain = 'prosody.example', tls, authentication = 'internal_plain', users = USERS } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(domain, tls, authentication, users);
    } catch (error) {
      // Another process may have taken a port in the meantime.
      if (attempt === 3) throw error;
    }
  }
}

async function start(domain, tls, authentication, users) {
  const directory = temporaryDirectory('prosody');
  const [port, directPort, httpPort] = [await freePort(), await freePort(), await freePort()];
  const domains = tls ? Object.keys(tls) : [domain];
  const ssl = (name) => {
    if (!tls) return '';
    const files = `{ certificate = "${tls[name].certificate}", key = "${tls[name].key}" }`;
    return `ssl = ${files}\nc2s_direct_tls_ssl = ${files}`;
  };
  const config = join(directory, 'prosody.cfg.lua');
  writeFileSync(config, `
run_as_root = true
pidfile = "${directory}/prosody.pid"
data_path = "${directory}/data"
log = { info = "*console" }
daemonize = false
interfaces = { "127.0.0.1" }
c2s_ports = { ${port} }
c2s_direct_tls_ports = { ${tls ? directPort : ''} }
http_interfaces = { "127.0.0.1" }
http_ports = { ${httpPort} }
https_ports = {}
modules_disabled = { "s2s" }
modules_enabled = {
  "roster", "saslauth", "disco", "ping", "blocklist", "carbons", "smacks", "offline",
  "pep", "private", "vcard4", "vcard_legacy", "time", "uptime", "version", "websocket"${tls ? ', "tls"' : ''}
}
c2s_require_encryption = ${Boolean(tls)}
allow_unencrypted_plain_auth = ${!tls}
authentication = "${authentication}"
consider_websocket_secure = true
http_default_host = "${domains[0]}"
smacks_hibernation_time = 600
${ssl(domains[0])}
${domains.map((name) => `VirtualHost "${name}"\n${ssl(name)}\n`).join('')}`);
  for (const name of domains) {
    const accounts = join(directory, 'data', encode(name), 'accounts');
    mkdirSync(accounts, { recursive: true });
    for (const [user, password] of Object.entries(users)) {
      writeFileSync(join(accounts, `${user}.dat`), `return { ["password"] = "${password}"; };\n`);
    }
  }
  const child = new Child('prosody', 'prosody', ['--config', config, '-F'], { cwd: directory });
  try {
    await child.waitForLine(new RegExp(`Activated service 'c2s' on .*:${port}\\b`));
    for (const one of [port, httpPort, ...(tls ? [directPort] : [])]) await waitForPort(one);
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return {
    name: 'Prosody',
    streamManagement: true,
    ownPresence: true,
    domain: domains[0],
    users,
    port,
    address: `127.0.0.1:${port}`,
    directAddress: `127.0.0.1:${directPort}`,
    ownWebSocket: `ws://127.0.0.1:${httpPort}/xmpp-websocket`,
    log: () => child.tail(),
    stop: () => child.stop(),
  };
}

/** A domain as Prosody encodes it in a path. */
function encode(domain) {
  return domain.replace(/[^A-Za-z0-9]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
