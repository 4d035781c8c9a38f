// Upgrades in place under chat: Strophe and raw clients by wss, Prosody and ejabberd with TLS
// behind. Ten upgrades, and one to a program that is broken and one to a configuration that
// is. No connect is refused, no session closed, no message lost, doubled or reordered, the
// old processes end with their sessions, and the newest has no more descriptors and memory
// than the first.
//
//   node upgrade.mjs           40 clients in pairs; $PAIRS for another number of pairs

import { existsSync, readFileSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Authority } from './lib/certificates.mjs';
import { temporaryDirectory } from './lib/process.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { within } from './lib/wait.mjs';
import { startEjabberd } from './servers/ejabberd.mjs';
import { startProsody } from './servers/prosody.mjs';

// The certificate of the port is of an authority that Node does not know.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const { WebSocket } = await import('ws');
const strophe = await import('./clients/strophe.mjs');
const raw = await import('./clients/raw.mjs');

const PAIRS = Number(process.env.PAIRS ?? 20);
const MESSAGES = 10;
/** How much larger than the first process the last ones may be, all without sessions. */
const GROWTH = 1.25;
const top = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const built = process.env.JABSOCKET ?? resolve(top, process.env.CARGO_TARGET_DIR ?? 'target', 'release', 'jabsocket');

// The daemon is started by a link, which later leads elsewhere.
const directory = temporaryDirectory('upgrade');
const program = join(directory, 'jabsocket');
symlinkSync(built, program);
process.env.JABSOCKET = program;
const { startJabsocket } = await import('./daemon.mjs');

function lead(to) {
  const link = join(directory, 'new');
  symlinkSync(to, link);
  renameSync(link, program);
}

const runner = new Runner(90_000);
const authority = new Authority();
const access = { tls: 'required', ca_file: authority.file };
const prosody = await startProsody({ tls: { 'prosody.example': authority.issue('prosody.example') } });
const ejabberd = await startEjabberd({ certificate: authority.issue('ejabberd.example') });
const servers = [{ ...prosody, access }, { ...ejabberd, address: ejabberd.tlsAddress, access }];
const own = authority.issue('localhost');
const jabsocket = await startJabsocket(servers, {
  settings: `tls_certificate: ${own.certificate}\ntls_key: ${own.key}\n`,
});
runner.onFailure = () => jabsocket.log(25);
const url = `wss://localhost:${jabsocket.port}/xmpp-websocket`;
const file = /-c (\S+)/.exec(readFileSync(`/proc/${jabsocket.pid}/cmdline`, 'utf8').replaceAll('\0', ' '))[1];
const pids = [jabsocket.pid];
const newest = () => pids.at(-1);

/** Asks the newest process for an upgrade, and what it says about it. */
async function upgrade(pattern) {
  const from = jabsocket.child.lines.length;
  process.kill(newest(), 'SIGUSR2');
  return jabsocket.child.waitForLine(pattern, { from, ms: 30_000 });
}

let resources = 0;
async function login(client, server, user) {
  const session = await client.login({
    url, domain: server.domain, user, password: server.users[user], mechanism: 'SCRAM', resource: `upgrade-${++resources}`,
  });
  session.closed = false;
  session.ws.once('close', () => { session.closed = true; });
  return session;
}

/** Each client with each server, in turn. */
const KINDS = servers.flatMap((server) => [[strophe, server], [raw, server]]);
const pairs = [];
async function openPair() {
  const [client, server] = KINDS[pairs.length % KINDS.length];
  const sides = Object.keys(server.users).map((user) => login(client, server, user));
  pairs.push({ sides: await Promise.all(sides), sent: 0 });
}

/** The open descriptors and the resident memory of the newest process, once it has at most so many descriptors. */
async function held(most = Infinity) {
  const count = () => readdirSync(`/proc/${newest()}/fd`).length;
  for (let n = 0; n < 100 && count() > most; n++) await new Promise((done) => { setTimeout(done, 100); });
  const status = readFileSync(`/proc/${newest()}/status`, 'utf8');
  return { descriptors: count(), kib: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) };
}

function say(pair) {
  const [a, b] = pair.sides;
  a.sendMessage(b.jid, `${pair.sent}`);
  b.sendMessage(a.jid, `${pair.sent}`);
  pair.sent++;
}

/** Every message, in order, and no other. */
async function hear(pair, from) {
  for (const side of pair.sides) {
    check(!side.closed, `the session ${side.jid} was closed`);
    for (let n = from; n < pair.sent; n++) equal((await side.messages.next(() => true, `message ${n}`)).body, `${n}`, 'a message');
  }
}

/** Opening handshakes, one after the other, until it is stopped; each must succeed. */
function knock() {
  let stopped = false;
  const done = (async () => {
    do {
      await within(15_000, 'an opening handshake', new Promise((good, bad) => {
        const ws = new WebSocket(url, 'xmpp');
        ws.once('open', () => { ws.terminate(); good(); });
        ws.once('error', bad);
      }));
    } while (!stopped);
  })();
  return () => {
    stopped = true;
    return done;
  };
}

const first = await held();
await runner.test(`log ${2 * PAIRS} clients in`, async () => {
  for (let n = 0; n < PAIRS; n++) await openPair();
});
const config = readFileSync(file, 'utf8');
for (let round = 1; round <= 12; round++) {
  const kind = { 4: 'to a broken program', 8: 'to a broken configuration' }[round] ?? 'in place';
  await runner.test(`upgrade ${round}, ${kind}`, async () => {
    const stop = knock();
    const starts = pairs.map((pair) => pair.sent);
    const chat = setInterval(() => pairs.forEach(say), 50);
    try {
      if (round === 4) {
        const broken = join(directory, 'broken');
        writeFileSync(broken, '#!/bin/sh\nexit 3\n', { mode: 0o755 });
        lead(broken);
        await upgrade(/upgrade failed.*exit status: 3/);
        lead(built);
      } else if (round === 8) {
        writeFileSync(file, `${config}write_timeout: nonsense\n`);
        await upgrade(/upgrade failed.*configuration has errors/);
        writeFileSync(file, config);
      } else {
        const [, pid] = await upgrade(/process (\d+) serves new clients/);
        pids.push(Number(pid));
      }
      for (let n = 0; n < MESSAGES; n++) pairs.forEach(say);
    } finally {
      clearInterval(chat);
    }
    for (const [at, pair] of pairs.entries()) await hear(pair, starts[at]);
    await stop();
    await openPair();
  });
}
/** Waits until only the newest process is left, and knows it of each generation from `first`. */
async function oldOnesEnd(first) {
  const alive = () => pids.slice(0, -1).filter((pid) => existsSync(`/proc/${pid}`) && !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8')));
  for (let n = 0; n < 200 && alive().length > 0; n++) await new Promise((done) => { setTimeout(done, 100); });
  equal(alive().join(), '', 'old processes');
  for (let n = first; n < pids.length; n++) {
    await jabsocket.child.waitForLine(new RegExp(`^jabsocket\\[${newest()}\\].* generation ${n} has ended`));
  }
}

await runner.test('the old processes end with their sessions', async () => {
  for (const { sides } of pairs) for (const side of sides) await side.close();
  await oldOnesEnd(1);
});
await runner.test('descriptors and memory are back', async () => {
  const used = await held(first.descriptors);
  // The last process has relayed sessions, the next one has not, like the first.
  const [, pid] = await upgrade(/process (\d+) serves new clients/);
  pids.push(Number(pid));
  await oldOnesEnd(pids.length - 1);
  const last = await held(first.descriptors);
  console.log(`   first process ${first.kib} KiB, last ${last.kib} KiB, the one before after its sessions ${used.kib} KiB`);
  equal([used.descriptors, last.descriptors], [first.descriptors, first.descriptors], 'open descriptors');
  for (const { kib } of [used, last]) check(kib <= GROWTH * first.kib, `${kib} KiB instead of ${first.kib}`);
});
process.kill(newest(), 'SIGTERM');
await jabsocket.child.stop();
for (const server of servers) await server.stop();
console.log(`upgrade: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
