// One of two gateways stops. Its sessions are closed with 1001, never faster than
// drain_spread says, and each returns at once through the other gateway, which never has
// more connections without a stream header than max_connecting_per_server allows.
//
//   node drain.mjs          600 sessions
//   node drain.mjs 9000

import { WebSocket } from 'ws';
import { startJabsocket } from './daemon.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { startStub } from './servers/stub.mjs';

const SESSIONS = Number(process.argv[2] ?? 600);
const SPREAD_MS = Math.max(3000, SESSIONS / 0.6);
const MOST = 32;
/** Simultaneous set-ups at the beginning. */
const OPENING = 100;
const DOMAIN = 'drain.example';
const OPEN = `<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='${DOMAIN}' version='1.0'/>`;

const runner = new Runner(120_000 + 20 * SESSIONS);
const stubs = [await startStub(), await startStub()];
const gateways = await Promise.all(stubs.map(({ address }) => startJabsocket([{ domain: DOMAIN, address, access: { tls: 'none' } }], {
  settings: `drain_spread: ${SPREAD_MS / 1000}\ndrain_timeout: ${SPREAD_MS / 1000 + 30}\nmax_connecting_per_server: ${MOST}\nping_interval: 0\n`,
})));
runner.onFailure = () => gateways.map((gateway) => gateway.log(10)).join('\n');

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** A session that is open, with a promise of its close code and time. */
function open({ url }) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, 'xmpp', { perMessageDeflate: false });
    const closed = new Promise((done) => { ws.on('close', (code) => done({ code, at: performance.now() })); });
    ws.on('error', reject);
    ws.on('open', () => ws.send(OPEN));
    ws.on('message', (data) => {
      if (data.toString().startsWith('<stream:features')) resolve({ ws, closed });
    });
    closed.then(({ code }) => reject(new Error(`closed with ${code} before its stream was open`)));
  });
}

const sessions = [];
await runner.test(`open ${SESSIONS} sessions`, async () => {
  let left = SESSIONS;
  const some = async () => {
    while (left-- > 0) sessions.push(await open(gateways[0]));
  };
  await Promise.all(Array.from({ length: OPENING }, some));
  equal(stubs.map((stub) => stub.open), [SESSIONS, 0], 'connections at the servers');
});

const ends = [];
let began;
await runner.test('the gateway stops: each session is closed with 1001 and returns through the other', async () => {
  began = performance.now();
  gateways[0].child.process.kill('SIGTERM');
  const returned = await Promise.all(sessions.map(async ({ closed }) => {
    const end = await closed;
    ends.push(end);
    return open(gateways[1]);
  }));
  equal(ends.filter(({ code }) => code !== 1001), [], 'other close codes');
  sessions.splice(0, SESSIONS, ...returned);
  const { code } = await gateways[0].child.exited;
  equal(code, 0, 'its exit status');
  while (stubs[0].open > 0) await wait(20);
  equal(stubs.map((stub) => stub.open), [0, SESSIONS], 'connections at the servers');
  equal(stubs.map((stub) => stub.total), [SESSIONS, SESSIONS], 'connections in all');
});

await runner.test('at no time more sessions were closed than drain_spread says', async () => {
  equal(ends.length, SESSIONS, 'closed sessions');
  let nearest = 0;
  ends.forEach(({ at }, n) => {
    // The gateway counts in milliseconds, and the first session is due at once.
    const allowed = 1 + SESSIONS * (at - began + 2) / SPREAD_MS;
    check(n < allowed, `${n + 1} sessions within ${Math.round(at - began)} ms`);
    nearest = Math.max(nearest, n / allowed);
  });
  const seconds = (ends.at(-1).at - began) / 1000;
  console.log(`   ${SESSIONS} sessions in ${seconds.toFixed(1)} s; at most ${(100 * nearest).toFixed(1)} % of what was allowed by then`);
});

await runner.test(`no more than ${MOST} connections of a gateway wait for a stream header`, async () => {
  console.log(`   highest: ${stubs.map(({ highest }) => highest).join(' and ')}`);
  for (const { highest } of stubs) check(highest >= 1 && highest <= MOST, `${highest} at a time`);
});

for (const { ws } of sessions) ws.terminate();
await gateways[1].stop();
console.log(`drain: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
