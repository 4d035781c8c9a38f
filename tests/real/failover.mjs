// One of two gateways behind HAProxy is killed while clients with stream management
// (XEP-0198) chat through Prosody. Its clients all return at once and resume at the other
// gateway. No message is lost, doubled or reordered, and each gateway never has more
// connections without a stream header than max_connecting_per_server allows.
//
//   node failover.mjs          200 clients
//   node failover.mjs 2000

import { readFileSync } from 'node:fs';
import { authenticate } from './clients/raw.mjs';
import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { startCounter } from './servers/counter.mjs';
import { startProsody } from './servers/prosody.mjs';
import { HOST, startHaproxy } from './servers/proxies.mjs';

const CLIENTS = Number(process.argv[2] ?? 200);
const MOST = 32;
/** Rounds of messages after the last client has resumed. */
const ROUNDS = 3;
/** Simultaneous logins at the beginning. */
const LOGINS = 50;

const runner = new Runner(120_000 + 200 * CLIENTS);
const users = Object.fromEntries(Array.from({ length: CLIENTS }, (_, n) => [`user${n}`, `password${n}`]));
const authority = new Authority();
const ca = readFileSync(authority.file);
const prosody = await startProsody({ users });
const counters = [await startCounter(prosody.port), await startCounter(prosody.port)];
const gateways = await Promise.all(counters.map(({ address }) => startJabsocket([{ ...prosody, address, access: { tls: 'none' } }], {
  // However slow the machine is, no session ends while it waits.
  settings: `trusted_proxies: 127.0.0.1\nmax_connecting_per_server: ${MOST}\nconnect_timeout: 3600\n`,
})));
const proxy = await startHaproxy(authority.issue(HOST), gateways.map(({ port }) => port), { clients: 2 * CLIENTS });
runner.onFailure = () => gateways[1].log(25);

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** A user with one session, which goes on in another WebSocket after it is lost. */
class User {
  heard = [];
  losses = 0;
  attempts = 0;
  resumed = 0;

  constructor(name) {
    this.name = name;
  }

  connect() {
    return authenticate({
      url: proxy.url,
      domain: prosody.domain,
      user: this.name,
      password: users[this.name],
      mechanism: 'PLAIN',
      resource: 'failover',
      webSocket: { ca, servername: HOST, headers: { Host: HOST }, perMessageDeflate: false },
    });
  }

  async login() {
    this.client = await (await this.connect()).bind('failover');
    await this.client.enable();
    this.#watch();
  }

  #watch() {
    this.client.closed.then(() => {
      this.losses++;
      this.back = this.#resume();
    });
  }

  /** Connects until it succeeds. A session that cannot be resumed is an error. */
  async #resume() {
    for (;;) {
      let next;
      try {
        this.attempts++;
        next = await this.connect();
      } catch (error) {
        if (this.attempts === 20) throw error;
        await wait(200);
        continue;
      }
      await next.resume(this.client);
      this.listen();
      this.client = next;
      this.resumed++;
      return this.#watch();
    }
  }

  /** Stanzas for a closed WebSocket are kept for the resumption. */
  say(peer, text) {
    this.client.sendMessage(peer.client.jid, text);
  }

  listen() {
    this.heard.push(...this.client.messages.take().map(({ body }) => body));
  }
}

const all = Object.keys(users).map((name) => new User(name));
const pairs = Array.from({ length: CLIENTS / 2 }, (_, n) => [all[2 * n], all[2 * n + 1]]);
let said = 0;
function say() {
  for (const [one, other] of pairs) {
    one.say(other, `${said}`);
    other.say(one, `${said}`);
  }
  said++;
}

await runner.test(`${CLIENTS} clients log in, through both gateways`, async () => {
  const waiting = [...all];
  const login = async () => {
    for (let user = waiting.pop(); user; user = waiting.pop()) await user.login();
  };
  await Promise.all(Array.from({ length: LOGINS }, login));
  for (const { open } of counters) check(open >= CLIENTS / 4, `${open} sessions at one gateway`);
});

let lost;
const pace = 5 * CLIENTS;
await runner.test('one gateway is killed: all its clients resume', async () => {
  const chat = setInterval(say, pace);
  try {
    for (let n = 0; n < ROUNDS; n++) say();
    await Promise.all(all.map((user) => user.client.serverCount()));
    lost = counters[0].open;
    const began = performance.now();
    // Messages are on their way in both directions at that moment.
    say();
    gateways[0].child.process.kill('SIGKILL');
    say();
    while (all.reduce((sum, { losses }) => sum + losses, 0) < lost) await wait(20);
    await Promise.all(all.map(({ back }) => back));
    const attempts = all.reduce((sum, user) => sum + user.attempts, 0);
    console.log(`   ${lost} sessions lost with the gateway, all resumed after ${Math.round(performance.now() - began)} ms, with ${attempts} attempts`);
    const until = said + ROUNDS;
    while (said < until) await wait(20);
  } finally {
    clearInterval(chat);
  }
  equal(all.filter(({ losses, resumed }) => losses === 1 && resumed === 1).length, lost, 'clients that resumed once');
  equal(all.filter(({ losses }) => losses === 0).length, CLIENTS - lost, 'clients that noticed nothing');
});

await runner.test('no message is lost, doubled or reordered', async () => {
  const expected = Array.from({ length: said }, (_, n) => `${n}`).join();
  for (const user of all) {
    for (user.listen(); user.heard.length < said; user.listen()) await wait(20);
  }
  // Whatever was doubled has arrived by now, because each stream is in order.
  say();
  for (const user of all) {
    for (user.listen(); user.heard.at(-1) !== `${said - 1}`; user.listen()) await wait(20);
    equal(user.heard.join(), `${expected},${said - 1}`, `what ${user.name} heard`);
  }
  console.log(`   ${CLIENTS * said} messages`);
});

await runner.test(`no more than ${MOST} connections of a gateway wait for a stream header`, async () => {
  console.log(`   highest: ${counters.map(({ highest }) => highest).join(' and ')}`);
  for (const { highest } of counters) check(highest > 1 && highest <= MOST, `${highest} at a time`);
});

for (const { client } of all) client.ws.terminate();
await proxy.stop();
await gateways[1].stop();
await prosody.stop();
for (const counter of counters) await counter.stop();
console.log(`failover: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
