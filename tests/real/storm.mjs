// Sessions that all begin at once, through jabsocket, at real servers with short listen
// queues: how many get their <open/>, and when.
//
//   node storm.mjs                      1,000 at once, ten times 100, to Prosody and ejabberd
//   node storm.mjs --server ejabberd    one server only
//   node storm.mjs --settings 'max_connecting_per_server: 5'
//
// Each session must have TLS to its server. Times depend on the machine, so this is no test:
// it says what it saw, and ends with 1 only if a session got no stream.

import { WebSocket } from 'ws';
import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { startEjabberd } from './servers/ejabberd.mjs';
import { startProsody } from './servers/prosody.mjs';

const argv = process.argv.slice(2);
const option = (name) => (argv.includes(name) ? argv[argv.indexOf(name) + 1] : undefined);
const authority = new Authority();
const STARTERS = {
  prosody: (domain) => startProsody({ domain, tls: { [domain]: authority.issue(domain) } }),
  // Debian's default backlog.
  ejabberd: (domain) => startEjabberd({ domain, certificate: authority.issue(domain), backlog: 5 }),
};
const names = option('--server') ? [option('--server')] : Object.keys(STARTERS);
const settings = `connect_timeout: 20\n${option('--settings') ?? ''}\n`;

/** One session: what became of it after how many ms, and its WebSocket. */
function open(url, domain) {
  return new Promise((resolve) => {
    const began = performance.now();
    const ws = new WebSocket(url, 'xmpp');
    const end = (result) => resolve({ result, ms: performance.now() - began, ws });
    ws.on('error', (error) => end(error.message));
    ws.on('close', (code) => end(`closed with ${code}`));
    ws.on('open', () => ws.send(`<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='${domain}' version='1.0'/>`));
    ws.on('message', (data) => {
      const text = data.toString();
      if (text.startsWith('<stream:features')) end('open');
      else if (text.startsWith('<stream:error')) end(/<([a-z-]+) xmlns=["']urn:ietf:params:xml:ns:xmpp-streams/.exec(text)?.[1] ?? text);
    });
  });
}

async function storm(url, domain, count) {
  const sessions = await Promise.all(Array.from({ length: count }, () => open(url, domain)));
  await Promise.all(sessions.map(({ ws }) => new Promise((resolve) => {
    if (ws.readyState === WebSocket.CLOSED) return resolve();
    ws.on('close', resolve);
    return ws.terminate();
  })));
  return sessions;
}

function tell(what, sessions) {
  const times = sessions.filter(({ result }) => result === 'open').map(({ ms }) => ms).sort((a, b) => a - b);
  const at = (part) => `${Math.round(times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN)} ms`;
  const failures = {};
  for (const { result } of sessions) if (result !== 'open') failures[result] = (failures[result] ?? 0) + 1;
  console.log(`${what}: ${times.length} of ${sessions.length} open; median ${at(0.5)}, 99 % ${at(0.99)}, last ${at(1)}`,
    Object.keys(failures).length > 0 ? failures : '');
  return times.length === sessions.length;
}

let good = true;
for (const name of names) {
  const domain = `${name}.example`;
  const server = await STARTERS[name](domain);
  const access = { tls: 'required', ca_file: authority.file };
  const address = name === 'ejabberd' ? server.tlsAddress : server.address;
  const jabsocket = await startJabsocket([{ ...server, address, access }], { settings });
  const rounds = [];
  for (let round = 0; round < 10; round++) rounds.push(...await storm(jabsocket.url, domain, 100));
  good = tell(`${name}, ten times 100`, rounds) && good;
  good = tell(`${name}, 1,000 at once`, await storm(jabsocket.url, domain, 1000)) && good;
  await jabsocket.stop();
  await server.stop();
}
process.exit(good ? 0 : 1);
