// Starts ejabberd on loopback with its data in a temporary directory. It has a port for
// plain text, a port for the PROXY protocol and, with a certificate, a port that requires
// STARTTLS. It runs as an Erlang node without a name, so without distribution and epmd.
// ejabberdctl needs both and is not used.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, freePort, temporaryDirectory, waitForPort } from '../lib/process.mjs';
import { USERS } from './prosody.mjs';

export async function startEjabberd({ domain = 'ejabberd.example', certificate, backlog = 128 } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(domain, certificate, backlog);
    } catch (error) {
      // Another process may have taken a port in the meantime.
      if (attempt === 3) throw error;
    }
  }
}

/** The path of ejabberd's library in Debian, from ejabberdctl. */
function libraries() {
  const match = /^ERL_LIBS='?([^'\n]+)'?$/m.exec(readFileSync('/usr/sbin/ejabberdctl', 'utf8'));
  if (match) return match[1];
  return readdirSync('/usr/lib').map((name) => join('/usr/lib', name))
    .find((path) => existsSync(path) && readdirSync(path).some((name) => name.startsWith('ejabberd-')));
}

async function start(domain, certificate, backlog) {
  const directory = temporaryDirectory('ejabberd');
  const [port, proxyPort, tlsPort, httpPort] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const listener = (number, more) => `  -
    port: ${number}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    backlog: ${backlog}
    max_stanza_size: 1048576
    access: all
    ${more}
`;
  const config = join(directory, 'ejabberd.yml');
  for (const name of ['log', 'spool']) mkdirSync(join(directory, name));
  writeFileSync(config, `
hosts:
  - "${domain}"
loglevel: info
${certificate ? `certfiles: ["${certificate.certificate}", "${certificate.key}"]` : ''}
listen:
${listener(port, 'starttls: false')}${listener(proxyPort, 'use_proxy_protocol: true')}${
  certificate ? listener(tlsPort, 'starttls_required: true') : ''}  -
    port: ${httpPort}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /xmpp-websocket: ejabberd_http_ws
auth_method: internal
auth_password_format: plain
s2s_access: none
acme:
  auto: false
modules:
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_roster: {}
  mod_stream_mgmt:
    resend_on_timeout: if_offline
    resume_timeout: 300
  mod_vcard: {}
  mod_version: {}
`);
  const register = Object.entries(USERS)
    .map(([user, password]) => `ok = ejabberd_auth:try_register(<<"${user}">>, <<"${domain}">>, <<"${password}">>)`);
  const child = new Child('ejabberd', 'erl', [
    '-noinput', '+K', 'true', '+S', '2', '+sbwt', 'none',
    '-mnesia', 'dir', `"${directory}/spool"`,
    '-eval', `{ok, _} = application:ensure_all_started(ejabberd), ${register.join(', ')}, io:format("ejabberd is ready~n").`,
  ], {
    cwd: directory,
    env: {
      HOME: directory,
      ERL_LIBS: libraries(),
      ERL_CRASH_DUMP: join(directory, 'log', 'erl_crash.dump'),
      EJABBERD_CONFIG_PATH: config,
      EJABBERD_LOG_PATH: join(directory, 'log', 'ejabberd.log'),
    },
  });
  try {
    await child.waitForLine(/ejabberd is ready/, { ms: 60_000 });
    await waitForPort(port);
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return {
    name: 'ejabberd',
    streamManagement: true,
    ownPresence: true,
    domain,
    users: USERS,
    port,
    address: `127.0.0.1:${port}`,
    proxyAddress: `127.0.0.1:${proxyPort}`,
    tlsAddress: `127.0.0.1:${tlsPort}`,
    child,
    ownWebSocket: `ws://127.0.0.1:${httpPort}/xmpp-websocket`,
    log: () => child.tail(),
    stop: () => child.stop(),
  };
}
