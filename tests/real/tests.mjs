// The tests. `world` is an XMPP server and the WebSocket URL for it.

import * as draft from './clients/draft.mjs';
import * as nbxmpp from './clients/nbxmpp.mjs';
import * as raw from './clients/raw.mjs';
import * as stanza from './clients/stanza.mjs';
import * as strophe from './clients/strophe.mjs';
import * as xmppjs from './clients/xmppjs.mjs';
import { check, equal } from './lib/runner.mjs';
import { within, PATIENCE_MS } from './lib/wait.mjs';
import { NS, escape, is } from './lib/xml.mjs';

export const CLIENTS = { strophe, 'xmpp.js': xmppjs, stanza, nbxmpp, raw, draft };

/** Without an answer to <close/>, xmpp.js gives up after 2 s and stanza.js after 1 s. */
const CLOSE_LIMIT_MS = 900;

const KILOBYTES_60 = 'Soft! what light through yonder window breaks? \u00e4\u20ac\u{1f339} '.repeat(1100).slice(0, 53_000);

/** Characters with every possible byte of UTF-8, except CR, which XML replaces by LF. */
function everyByte() {
  const points = [0x09, 0x0a];
  for (let byte = 0x20; byte < 0x80; byte++) points.push(byte);
  for (let byte = 0; byte < 64; byte++) points.push(((2 + (byte % 30)) << 6) | byte);
  for (let lead = 0; lead < 16; lead++) points.push((lead << 12) | (lead ? 0x123 : 0x923));
  for (let lead = 0; lead < 5; lead++) points.push((lead << 18) | (lead ? 0x123 : 0x1f339));
  return String.fromCodePoint(...points);
}

const BODIES = {
  'one byte': 'x',
  'an emoji': '\u{1f469}\u{1f3fd}\u200d\u{1f680} \u{1f339}',
  'every byte': `<${everyByte()}>`,
  ']]>': 'a]]>b ]]>',
  entities: '&<>"\' &amp; &#38; &lt;b&gt;',
  '60 kB': KILOBYTES_60,
};
const CDATA = { source: '<![CDATA[<b>&amp; "x" ]]]]><![CDATA[> end]]>', body: '<b>&amp; "x" ]]> end' };

let resources = 0;

export class World {
  constructor(server, url, kinds = Object.keys(CLIENTS)) {
    Object.assign(this, { server, url, kinds });
    this.sessions = new Set();
  }

  options(user, kind, mechanism = 'SCRAM') {
    const { domain, users } = this.server;
    return {
      url: this.url, domain, user, password: users[user], mechanism,
      resource: `${kind.replace('.', '')}-${++resources}`,
    };
  }

  async open(kind, user, mechanism, more = {}) {
    return this.keep(await CLIENTS[kind].login({ ...this.options(user, kind, mechanism), ...more }));
  }

  keep(session) {
    this.sessions.add(session);
    return session;
  }

  /** Discards what a test has left. */
  sweep() {
    for (const session of this.sessions) {
      session.entity?.reconnect.stop();
      session.ws?.terminate?.();
    }
    this.sessions.clear();
  }
}

async function receive(session, from, body) {
  const { body: got } = await session.messages.next((message) => message.from === from, `a message from ${from}`);
  equal(got, body, `message from ${from}`);
}

/** All bodies from `from` up to `end`, in order of arrival. */
async function receiveUntil(session, from, end) {
  const bodies = [];
  for (;;) {
    const { body } = await session.messages.next((message) => message.from === from, `messages from ${from} (${bodies.length} so far)`);
    if (body === end) return bodies;
    bodies.push(body);
  }
}

async function bothWays(one, other, body) {
  one.sendMessage(other.jid, body);
  await receive(other, one.jid, body);
  other.sendMessage(one.jid, body);
  await receive(one, other.jid, body);
}

const numbered = (name, from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${name} ${from + i}`);

/** Both send `count` messages at the same time. All must arrive in order. */
async function burst(one, other, count) {
  const bodies = numbered('quick', 1, count);
  for (const body of bodies) {
    one.sendMessage(other.jid, body);
    other.sendMessage(one.jid, body);
  }
  one.sendMessage(other.jid, 'end');
  other.sendMessage(one.jid, 'end');
  const [atOther, atOne] = await Promise.all([receiveUntil(other, one.jid, 'end'), receiveUntil(one, other.jid, 'end')]);
  equal(atOther, bodies, 'one way');
  equal(atOne, bodies, 'the other way');
}

function checkClose({ code, reason, libraryMs, socketMs }) {
  equal(code, 1000, `close code (reason ${JSON.stringify(reason)})`);
  check(libraryMs < CLOSE_LIMIT_MS, `the client took ${Math.round(libraryMs)} ms to close`);
  check(socketMs < CLOSE_LIMIT_MS, `the WebSocket took ${Math.round(socketMs)} ms to close`);
}

// --- Chat -------------------------------------------------------------------

/** Romeo and Juliet subscribe to each other's presence. Later tests rely on this. */
export async function befriend(runner, world) {
  const name = world.server.name;
  await runner.test(`${name}: two users subscribe to each other`, async () => {
    const romeo = await world.open('raw', 'romeo');
    const juliet = await world.open('raw', 'juliet');
    const bare = ({ jid }) => jid.split('/')[0];
    for (const user of [romeo, juliet]) {
      await user.roster();
      user.presence();
    }
    for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
      const of = (session, type) => (presence) => presence.type === type && presence.from.startsWith(bare(session));
      one.presence({ to: bare(other), type: 'subscribe' });
      await other.presences.next(of(one, 'subscribe'), 'the request');
      other.presence({ to: bare(one), type: 'subscribed' });
      await one.presences.next(of(other, 'subscribed'), 'its approval');
    }
    for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
      equal((await one.roster()).map(({ jid, subscription }) => [jid, subscription]), [[bare(other), 'both']], 'roster');
      checkClose(await one.close());
    }
  });
  world.sweep();
}

export async function clientTests(runner, world, kind) {
  const test = (name, body) => runner.test(`${world.server.name}: ${kind}: ${name}`, body);
  let romeo;
  let juliet;
  await test('log in with SCRAM', async () => { romeo = await world.open(kind, 'romeo', 'SCRAM'); });
  await test('log in with PLAIN', async () => { juliet = await world.open(kind, 'juliet', 'PLAIN'); });
  if (romeo && juliet) {
    await test('roster', async () => {
      for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
        equal(await one.roster(), [{ jid: other.jid.split('/')[0], subscription: 'both' }], 'roster');
      }
    });
    await test('presence', async () => {
      const from = (session, match) => (presence) => presence.from === session.jid && match(presence);
      romeo.presence();
      if (world.server.ownPresence) await romeo.presences.next(from(romeo, () => true), 'one’s own presence');
      juliet.presence();
      await romeo.presences.next(from(juliet, ({ type }) => type === 'available'), 'Juliet’s presence');
      await juliet.presences.next(from(romeo, ({ type }) => type === 'available'), 'Romeo’s presence');
      const status = 'in Mantua & <far> “away” \u{1f40e}';
      romeo.presence({ show: 'away', status });
      const seen = await juliet.presences.next(from(romeo, ({ show }) => show === 'away'), 'Romeo’s absence');
      equal(seen.status, status, 'status');
    });
    for (const [name, body] of Object.entries(BODIES)) {
      await test(`message, ${name}`, () => bothWays(romeo, juliet, body));
    }
    await test('message, CDATA section', async () => {
      for (const [one, other] of [[romeo, juliet], [juliet, romeo]]) {
        one.sendRaw(`<message xmlns='${NS.client}' type='chat' to='${other.jid}'><body>${CDATA.source}</body></message>`);
        await receive(other, one.jid, CDATA.body);
      }
    });
    await test('200 quick messages each way', () => burst(romeo, juliet, 200));
    await test('close', async () => {
      checkClose(await romeo.close());
      await juliet.presences.next(
        ({ from, type }) => from === romeo.jid && type === 'unavailable', 'Romeo’s unavailable presence');
      checkClose(await juliet.close());
      for (const session of [romeo, juliet]) equal((session.errors ?? []).map(String), [], 'the library’s errors');
    });
  }
  world.sweep();
}

/** Each client sends messages to each other client. */
export async function crossTests(runner, world) {
  const name = world.server.name;
  const romeos = {};
  const juliets = {};
  await runner.test(`${name}: log in with every client at once`, async () => {
    await Promise.all(world.kinds.flatMap((kind) => [
      world.open(kind, 'romeo').then((session) => { romeos[kind] = session; }),
      world.open(kind, 'juliet').then((session) => { juliets[kind] = session; }),
    ]));
  });
  for (const one of world.kinds) {
    for (const other of world.kinds.slice(world.kinds.indexOf(one) + 1)) {
      await runner.test(`${name}: ${one} and ${other} chat`, async () => {
        check(romeos[one] && juliets[other], 'no session');
        for (const body of Object.values(BODIES)) await bothWays(romeos[one], juliets[other], body);
        await burst(romeos[one], juliets[other], 20);
      });
    }
  }
  await runner.test(`${name}: every client closes at once`, async () => {
    const all = [...Object.values(romeos), ...Object.values(juliets)];
    for (const result of await Promise.all(all.map((session) => session.close()))) equal(result.code, 1000, 'close code');
  });
  world.sweep();
}

// --- Stream management (XEP-0198) -------------------------------------------

/** Logs in Juliet with a resumable session and Romeo without one, and exchanges a few stanzas. */
async function resumablePair(world, url = world.url) {
  const romeo = await world.open('raw', 'romeo');
  const juliet = world.keep(await raw.login({ ...world.options('juliet', 'raw'), url }));
  await juliet.enable();
  romeo.presence();
  juliet.presence();
  await bothWays(romeo, juliet, 'before');
  equal(await juliet.serverCount(), juliet.sent.length, 'the server’s count');
  return { romeo, juliet };
}

async function resumed(world, before) {
  const juliet = world.keep(await raw.authenticate(world.options('juliet', 'raw')));
  return juliet.resume(before);
}

/** Checks both directions and both counts after a resumption. */
async function stillGood(romeo, juliet) {
  await bothWays(romeo, juliet, 'after');
  equal(await juliet.serverCount(), juliet.sent.length, 'the server’s count after resumption');
}

/** `log` waits for a line from jabsocket after `from`, or does nothing without jabsocket. */
export async function resumptionTests(runner, world, { log, anotherJabsocket }) {
  const test = async (name, body) => {
    await runner.test(`${world.server.name}: resumption: ${name}`, body);
    world.sweep();
  };

  await test('after a TCP reset', async () => {
    const { romeo, juliet } = await resumablePair(world);
    const cut = log?.();
    await juliet.reset();
    await cut?.(/session .* ended by client: connection lost/);
    const missed = numbered('missed', 1, 20);
    for (const body of missed) romeo.sendMessage(juliet.jid, body);
    const again = await resumed(world, juliet);
    equal(again.resumedAt, juliet.sent.length, 'h of <resumed/>');
    romeo.sendMessage(juliet.jid, 'end');
    equal(await receiveUntil(again, romeo.jid, 'end'), missed, 'what was missed');
    await stillGood(romeo, again);
    checkClose(await again.close());
  });

  await test('after a TCP reset amid 200 messages each way', async () => {
    const { romeo, juliet } = await resumablePair(world);
    const bodies = numbered('amid', 1, 200);
    for (const body of bodies) {
      romeo.sendMessage(juliet.jid, body);
      juliet.sendMessage(romeo.jid, body);
    }
    const got = [];
    while (got.length < 60) got.push((await juliet.messages.next(({ from }) => from === romeo.jid, 'the first 60')).body);
    await juliet.reset();
    got.push(...juliet.messages.take(({ from }) => from === romeo.jid).map(({ body }) => body));
    const again = await resumed(world, juliet);
    romeo.sendMessage(juliet.jid, 'end');
    again.sendMessage(romeo.jid, 'end');
    got.push(...await receiveUntil(again, romeo.jid, 'end'));
    equal(got, bodies, 'what Juliet got');
    equal(await receiveUntil(romeo, juliet.jid, 'end'), bodies, 'what Romeo got');
    await stillGood(romeo, again);
    checkClose(await again.close());
  });

  await test('after a Close frame without <close/>', async () => {
    const { romeo, juliet } = await resumablePair(world);
    juliet.ws.close(1001, 'leaving the page');
    await within(PATIENCE_MS, 'the answer to Close', juliet.closed);
    for (const body of ['one', 'two']) romeo.sendMessage(juliet.jid, body);
    const again = await resumed(world, juliet);
    romeo.sendMessage(juliet.jid, 'end');
    equal(await receiveUntil(again, romeo.jid, 'end'), ['one', 'two'], 'what was missed');
    await stillGood(romeo, again);
    checkClose(await again.close());
  });

  await test('not after <close/>', async () => {
    const { juliet } = await resumablePair(world);
    checkClose(await juliet.close());
    const again = world.keep(await raw.authenticate(world.options('juliet', 'raw')));
    again.send(`<resume xmlns='${NS.sm}' previd='${escape(juliet.smId)}' h='${juliet.handled}'/>`);
    const answer = await again.either('resumed', 'failed');
    check(is(answer, 'failed', NS.sm), `resumed all the same: ${answer}`);
    await again.bind('afresh');
    checkClose(await again.close());
  });

  if (anotherJabsocket) {
    await test('after jabsocket was killed amid messages', async () => {
      const other = await anotherJabsocket();
      const { romeo, juliet } = await resumablePair(world, other.url);
      const [missed, late] = [numbered('missed', 1, 200), numbered('late', 1, 20)];
      for (const body of missed) romeo.sendMessage(juliet.jid, body);
      const got = [];
      while (got.length < 60) got.push((await juliet.messages.next(({ from }) => from === romeo.jid, 'the first 60')).body);
      const killed = other.child.stop('SIGKILL');
      // Not earlier: after a reset, Prosody 0.12 adds unread data from the old connection
      // to the stream that resumes the session.
      for (const body of late) juliet.sendMessage(romeo.jid, body);
      await killed;
      await within(PATIENCE_MS, 'the end of the WebSocket', juliet.closed);
      got.push(...juliet.messages.take(({ from }) => from === romeo.jid).map(({ body }) => body));
      const again = await resumed(world, juliet);
      equal(again.resent, late.length, 'number of messages that were lost');
      romeo.sendMessage(juliet.jid, 'end');
      again.sendMessage(romeo.jid, 'end');
      got.push(...await receiveUntil(again, romeo.jid, 'end'));
      equal(got, missed, 'what Juliet got');
      equal(await receiveUntil(romeo, juliet.jid, 'end'), late, 'what Romeo got');
      await stillGood(romeo, again);
      checkClose(await again.close());
    });

    await test('after jabsocket itself has ended', async () => {
      const other = await anotherJabsocket();
      const { romeo, juliet } = await resumablePair(world, other.url);
      await other.stop();
      const { code } = await within(PATIENCE_MS, 'the WebSocket’s close', juliet.closed);
      equal(code, 1001, 'close code');
      equal(juliet.elements.take((element) => is(element, 'close')).length, 0, 'number of <close/>');
      for (const body of ['one', 'two']) romeo.sendMessage(juliet.jid, body);
      const again = await resumed(world, juliet);
      romeo.sendMessage(juliet.jid, 'end');
      equal(await receiveUntil(again, romeo.jid, 'end'), ['one', 'two'], 'what was missed');
      await stillGood(romeo, again);
      checkClose(await again.close());
    });
  }

  for (const kind of ['strophe', 'xmpp.js', 'stanza', 'nbxmpp']) {
    await test(`${kind}’s own`, async () => {
      const romeo = await world.open('raw', 'romeo');
      const juliet = await world.open(kind, 'juliet', 'SCRAM', { streamManagement: true });
      const jid = juliet.jid;
      romeo.presence();
      juliet.presence();
      await bothWays(romeo, juliet, 'before');
      // Stanzas in transit when the connection breaks must be repeated.
      const late = numbered('late', 1, 5);
      for (const body of late) juliet.sendMessage(romeo.jid, body);
      await juliet.reset();
      const missed = numbered('missed', 1, 20);
      for (const body of missed) romeo.sendMessage(jid, body);
      await juliet.resume();
      equal(juliet.jid, jid, 'JID');
      romeo.sendMessage(jid, 'end');
      equal(await receiveUntil(juliet, romeo.jid, 'end'), missed, 'what was missed');
      juliet.sendMessage(romeo.jid, 'end');
      equal(await receiveUntil(romeo, jid, 'end'), late, 'what was on its way');
      await bothWays(romeo, juliet, 'after');
      checkClose(await juliet.close());
    });
  }
}
