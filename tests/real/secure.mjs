// jabsocket's connections to servers: TLS, certificates, the PROXY protocol and channel
// binding. Also see_other_uri and compression. Each test starts its own jabsocket.

import { login, refusal } from './clients/raw.mjs';
import * as strophe from './clients/strophe.mjs';
import { startJabsocket } from './daemon.mjs';
import { check, equal } from './lib/runner.mjs';
import { startProsody } from './servers/prosody.mjs';
import { World, befriend, clientTests, resumptionTests } from './tests.mjs';
import { fails, works } from './trial.mjs';

const DOMAIN = 'tls.example';
/** Domains with invalid certificates, their log messages, and what a trial finds. */
const BAD = {
  'other-name.example': [{ names: 'elsewhere.example' }, 'hostname mismatch', 'is for elsewhere.example'],
  'expired.example': [{ expired: true }, 'certificate has expired', 'has expired: Jan  2 00:00:00 2020 GMT; renew it'],
  'self-signed.example': [{ own: true }, 'self-signed certificate', 'is self-signed'],
};
/** The headers of a web page's handshake. */
const PAGE = { origin: 'https://chat.example.com' };
/** Another address of this machine. */
const CLIENT_ADDRESS = '127.0.0.9';

/** Waits for a line that `child` writes after this call. */
function newLines(child) {
  const from = child.lines.length;
  return (pattern) => child.waitForLine(pattern, { from, ms: 10_000 });
}

/** Runs `body` with a jabsocket for `servers`, which must then exit with status 0. */
async function through(servers, body, settings = '') {
  const jabsocket = await startJabsocket(servers, { settings });
  try {
    await body(jabsocket);
  } catch (error) {
    error.message += `\n${jabsocket.log(20)}`;
    throw error;
  } finally {
    await jabsocket.stop();
  }
}

// --- Prosody with TLS only ----------------------------------------------------

export async function prosodyTests(runner, authority) {
  const tls = { [DOMAIN]: authority.issue(DOMAIN) };
  for (const [domain, [wrong]] of Object.entries(BAD)) tls[domain] = authority.issue(domain, wrong);
  let prosody;
  if (!await runner.test('start Prosody with TLS', async () => { prosody = await startProsody({ tls }); })) return;
  const trusting = (policy) => ({ tls: policy, ca_file: authority.file });
  const starttls = { ...prosody, name: 'Prosody, STARTTLS', access: trusting('required') };
  const direct = { ...prosody, name: 'Prosody, direct TLS', address: prosody.directAddress, access: trusting('direct') };

  let friends = false;
  for (const server of [starttls, direct]) {
    const jabsocket = await startJabsocket([server]);
    const world = new World(server, jabsocket.url, ['strophe', 'xmpp.js']);
    if (!friends) await befriend(runner, world);
    friends = true;
    for (const kind of world.kinds) await clientTests(runner, world, kind);
    if (server === starttls) {
      await resumptionTests(runner, world, {
        log: () => newLines(jabsocket.child),
        anotherJabsocket: () => startJabsocket([server]),
      });
    }
    await runner.test(`${server.name}: every session had TLS`, async () => {
      const count = (pattern) => jabsocket.child.lines.filter((line) => pattern.test(line)).length;
      const sessions = count(/: connected from /);
      check(sessions > 0, 'no session');
      equal(count(/: TLSv1\.[23] with the server of /), sessions, 'number of TLS handshakes');
      await jabsocket.stop();
    });
    await certificateTests(runner, server);
    await works(runner, server, { tls: { direct: server === direct } });
    await pageTest(runner, server);
  }
  await wssTests(runner, direct, authority);
  await settingTests(runner, direct);
  await prosody.stop();
}

async function settingTests(runner, server) {
  await runner.test('Strophe follows see_other_uri', () => through([server], (there) => through([server], async (here) => {
    const options = { ...new World(server, here.url).options('romeo', 'strophe') };
    const session = await strophe.login(options);
    equal(session.ws.url, there.url, 'the endpoint in the end');
    check(here.child.lines.some((line) => /session .* ended by jabsocket: sent to see_other_uri/.test(line)), 'no such line in the log');
    equal((await session.close()).code, 1000, 'close code');
  }, `see_other_uri: ${there.url}\nsee_other_above: 0\n`)));

  await runner.test('messages are compressed with clients that offer it', () => through([server], async ({ url }) => {
    const world = new World(server, url);
    const [romeo, juliet] = await Promise.all(['romeo', 'juliet'].map((user) => world.open('strophe', user)));
    for (const { ws } of [romeo, juliet]) {
      check(ws.extensions.includes('permessage-deflate'), `agreed on ${JSON.stringify(ws.extensions)}`);
    }
    for (const body of ['short', 'a longer one, '.repeat(500), '\u{1f339}\u00e4<&>'.repeat(5000)]) {
      romeo.sendMessage(juliet.jid, body);
      equal((await juliet.messages.next(() => true, 'the message')).body, body, 'the message');
    }
    for (const session of [romeo, juliet]) equal((await session.close()).code, 1000, 'close code');
  }, 'compression: true\n'));
}

async function certificateTests(runner, server) {
  for (const [domain, [, cause, found]] of Object.entries(BAD)) {
    await fails(runner, { ...server, domain }, `the certificate at ${server.address} ${found}`);
    await runner.test(`${server.name}: refused: ${cause}`, () => through([{ ...server, domain }], async ({ url, child }) => {
      const written = newLines(child);
      const { condition, code } = await refusal({ url, domain });
      equal([condition, code], ['remote-connection-failed', 1000], 'what the client sees');
      await written(new RegExp(`session .* cannot reach the server of ${domain}: ${server.address}: certificate refused: ${cause}`));
      await written(new RegExp(`session .* ended by jabsocket: remote-connection-failed: .*certificate refused: ${cause}`));
    }));
  }
  await runner.test(`${server.name}: any certificate will do with verify: false`, () => {
    const servers = Object.keys(BAD).map((domain) => ({ ...server, domain, access: { ...server.access, verify: false } }));
    return through(servers, async ({ url }) => {
      for (const one of servers) await loginAndClose(new World(one, url).options('romeo', 'raw'));
    });
  });
}

async function loginAndClose(options) {
  const session = await login(options);
  equal((await session.close()).code, 1000, 'close code');
  return session;
}

/** stanza.js chooses the strongest mechanism. With channel binding it can only fail. */
function pageTest(runner, server) {
  return runner.test(`${server.name}: stanza.js logs in from a web page with all its mechanisms`, () => through([server], async ({ url }) => {
    const session = await new World(server, url).open('stanza', 'romeo', 'any', PAGE);
    equal((await session.close()).code, 1000, 'close code');
  }));
}

/** For the desktop client. upgrade.mjs and browser.mjs have other clients that come by wss. */
async function wssTests(runner, server, authority) {
  const { certificate, key } = authority.issue('localhost');
  const settings = `tls_certificate: ${certificate}\ntls_key: ${key}\n`;
  await through([server], async ({ port }) => {
    const world = new World({ ...server, name: `${server.name}, wss` }, `wss://localhost:${port}/xmpp-websocket`);
    await clientTests(runner, world, 'nbxmpp');
  }, settings);
}

// --- ejabberd -----------------------------------------------------------------

export async function ejabberdTests(runner, ejabberd, authority) {
  const test = (name, server, body) => runner.test(`ejabberd: ${name}`, () => through([server], (jabsocket) => body(jabsocket, server)));

  for (const version of ['v1', 'v2']) {
    const server = { ...ejabberd, address: ejabberd.proxyAddress, access: { proxy_protocol: version } };
    await test(`PROXY protocol ${version} tells the client’s address`, server, async ({ url }) => {
      const written = newLines(ejabberd.child);
      await loginAndClose({ ...new World(server, url).options('romeo', 'raw'), localAddress: CLIENT_ADDRESS });
      await written(new RegExp(`Accepted proxied connection .*${CLIENT_ADDRESS}:\\d+ -> .*${server.address}`));
    });
  }

  const secure = { ...ejabberd, address: ejabberd.tlsAddress, access: { tls: 'required', ca_file: authority.file } };
  await works(runner, secure, { tls: { direct: false, binding: true } });
  // By default channel binding is offered to programs and removed for web pages.
  for (const [what, access, webSocket, bound] of [
    ['relayed', { channel_binding: 'relay' }, PAGE, true],
    ['stripped', { channel_binding: 'strip' }, {}, false],
    ['by default, from a program', {}, {}, true],
    ['by default, from a web page', {}, PAGE, false],
  ]) {
    const server = { ...secure, access: { ...secure.access, ...access } };
    await test(`STARTTLS, channel binding ${what}`, server, async ({ url }) => {
      for (const mechanism of ['SCRAM', 'PLAIN']) {
        const { mechanisms } = await loginAndClose({ ...new World(server, url).options('romeo', 'raw', mechanism), webSocket });
        equal(mechanisms.some((offered) => offered.endsWith('-PLUS')), bound, `-PLUS among ${mechanisms}`);
      }
      for (const kind of ['strophe', 'xmpp.js', 'stanza']) {
        const session = await new World(server, url).open(kind, 'romeo');
        equal((await session.close()).code, 1000, `${kind}’s close code`);
      }
    });
  }
  await pageTest(runner, secure);
}
