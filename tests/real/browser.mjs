// A real browser: Chromium logs in with Strophe.js and with Converse.js, over wss
// and through jabsocket to Prosody, and shows the chat. Its pages come from another
// origin than the XMPP domain, and know nothing of the endpoint but what the
// domain's host-meta says.
//
//   node browser.mjs     with target/release/jabsocket ($JABSOCKET for another)
//                        and /usr/bin/chromium ($CHROMIUM); pictures of the pages
//                        go to target/screenshots

import { startChromium } from './browser/chromium.mjs';
import { converseTests } from './browser/converse.mjs';
import { servePages } from './browser/pages.mjs';
import { strangerTests, stropheTests } from './browser/strophe.mjs';
import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { startProsody } from './servers/prosody.mjs';
import { World, befriend } from './tests.mjs';

const DOMAIN = 'chat.example';
const PAGE = 'page.example';
/** An origin that jabsocket does not serve. */
const STRANGER = 'stranger.example';
/** A jabsocket whose certificate Chromium has no reason to believe. */
const UNBELIEVED = 'unbelieved.example';

const runner = new Runner(90_000);
process.on('unhandledRejection', (error) => {
  runner.failed++;
  console.log(`FAIL nothing unhandled: ${error?.stack ?? error}`);
});

const authority = new Authority();
const pictures = [];
const visitors = [];
const stage = {
  domain: DOMAIN,
  page: `https://${PAGE}/`,
  stranger: `https://${STRANGER}/`,
  unbelieved: `https://${PAGE}/elsewhere/`,
  endpoint: `wss://${DOMAIN}/xmpp-websocket`,
  async visitor(name) {
    const visitor = await this.chromium.visitor(name);
    visitors.push(visitor);
    return visitor;
  },
  async picture(visitor) {
    pictures.push(await visitor.picture(visitor.name));
  },
  quiet: (...some) => equal(some.flatMap(({ exceptions }) => exceptions), [], 'exceptions in the pages'),
  /** Waits for a line that jabsocket writes from now on. */
  newLines(child = this.jabsocket.child) {
    const from = child.lines.length;
    return (pattern) => child.waitForLine(pattern, { from, ms: 30_000 });
  },
};

function jabsocketFor(server, host) {
  const { certificate, key } = authority.issue(host);
  const settings = `tls_certificate: ${certificate}
tls_key: ${key}
origin: https://${PAGE}
host_meta: wss://${host}/xmpp-websocket
`;
  return startJabsocket([server], { settings }).then((jabsocket) => ({ ...jabsocket, certificate }));
}

const start = (name, body) => runner.test(`start ${name}`, body);
const started = await start('Prosody', async () => { stage.prosody = await startProsody({ domain: DOMAIN, authentication: 'internal_hashed' }); })
  && await start('jabsocket', async () => {
    stage.jabsocket = await jabsocketFor(stage.prosody, DOMAIN);
    stage.impostor = await jabsocketFor(stage.prosody, UNBELIEVED);
  })
  && await start('a web server', async () => {
    stage.certificate = authority.issue(PAGE, { names: [PAGE, STRANGER] });
    stage.pages = await servePages({
      certificate: stage.certificate,
      domain: DOMAIN,
      users: stage.prosody.users,
      elsewhere: `wss://${UNBELIEVED}/xmpp-websocket`,
    });
  })
  && await start('Chromium', async () => {
    const { jabsocket, impostor, pages, certificate } = stage;
    stage.chromium = await startChromium({
      hosts: { [DOMAIN]: jabsocket.port, [UNBELIEVED]: impostor.port, [PAGE]: pages.port, [STRANGER]: pages.port },
      certificates: [jabsocket.certificate, certificate.certificate],
    });
    console.log(`     Chromium ${stage.chromium.version}`);
  });

if (started) {
  const { jabsocket, impostor, pages, chromium } = stage;
  runner.onFailure = async () => {
    for (const visitor of visitors.filter(({ page }) => !page.isClosed())) pictures.push(await visitor.picture(`failed-${runner.failed}-${visitor.name}`));
    return jabsocket.log(25);
  };
  await befriend(runner, new World(stage.prosody, stage.prosody.ownWebSocket));
  await stropheTests(runner, stage);
  await strangerTests(runner, stage);
  await converseTests(runner, stage);
  runner.onFailure = () => jabsocket.log(25);

  await runner.test('the pages have asked nobody else, and for nothing that was not there', () => {
    const urls = visitors.flatMap(({ requests }) => requests).map((url) => new URL(url));
    const hosts = new Set(urls.filter(({ protocol }) => !['data:', 'blob:'].includes(protocol)).map(({ host }) => host));
    equal([...hosts].sort(), [DOMAIN, PAGE, STRANGER, UNBELIEVED].sort(), 'hosts of all requests');
    equal(pages.missing, [], 'files that were not there');
  });
  await chromium.stop();
  await runner.test('jabsocket ends, and no line of its log tells of trouble', async () => {
    await jabsocket.stop();
    await impostor.stop();
    const bad = jabsocket.child.lines.filter((line) => /\]: (warning|err|crit|alert|emerg): |panicked/.test(line));
    equal(bad, [], 'lines');
    const sessions = jabsocket.child.lines.filter((line) => / session .* dialect=rfc7395 /.test(line));
    check(sessions.length > 0, 'no session in the log');
    equal(sessions.filter((line) => !/ ended by client: /.test(line)), [], 'sessions that were not the client’s to end');
  });
}
for (const part of ['pages', 'prosody']) await stage[part]?.stop();

for (const picture of pictures) console.log(`screenshot: ${picture}`);
console.log(`browser: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
