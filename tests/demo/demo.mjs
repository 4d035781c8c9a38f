// The demonstration behind tests/demo.sh: Prosody, jabsocket before it, two
// users who chat through it, and then a page to chat with by hand.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { login } from '../real/clients/strophe.mjs';
import { startJabsocket } from '../real/daemon.mjs';
import { startProsody } from '../real/servers/prosody.mjs';

const once = process.argv.includes('--once');
const here = dirname(fileURLToPath(import.meta.url));
let step = Number(process.env.DEMO_STEP ?? 1);
const say = (text) => console.log(`${step++}. ${text}`);
const detail = (text) => console.log(text.replace(/^(?=.)/gm, '     '));

let prosody;
let jabsocket;

async function stop() {
  for (const part of [jabsocket, prosody]) await part?.stop();
}

async function chat() {
  prosody = await startProsody({ domain: 'localhost' });
  const users = Object.entries(prosody.users);
  say('An XMPP server, Prosody, runs on loopback and knows two users:');
  detail(`xmpp      ${prosody.address} (plain TCP)\n${users.map(([user, password]) => `${user.padEnd(9)} ${user}@localhost, password ${password}`).join('\n')}`);

  jabsocket = await startJabsocket([prosody]);
  say('jabsocket runs before it, with this configuration:');
  detail(jabsocket.config);
  detail(`websocket ${jabsocket.url}`);

  say('Both log in with Strophe.js, as a web page would, over WebSocket:');
  const sessions = [];
  for (const [user, password] of users) {
    const options = { url: jabsocket.url, domain: 'localhost', user, password, mechanism: 'SCRAM', resource: 'demo' };
    const session = await login(options);
    session.presence();
    sessions.push(session);
    detail(`${session.jid} is online`);
  }
  const [romeo, juliet] = sessions;

  say('They talk:');
  const lines = [
    [romeo, juliet, 'But soft, what light through yonder window breaks?'],
    [juliet, romeo, 'O Romeo, Romeo, wherefore art thou Romeo? \u{1f339}'],
    [romeo, juliet, '<love> & "XML" \u2019tis all the same to me ]]>'],
  ];
  for (const [from, to, body] of lines) {
    from.sendMessage(to.jid, body);
    const got = await to.messages.next((message) => message.from === from.jid, `${from.jid}’s message`);
    if (got.body !== body) throw new Error(`sent ${JSON.stringify(body)}, but ${JSON.stringify(got.body)} arrived`);
    detail(`${from.jid.split('@')[0].padEnd(6)} -> ${to.jid.split('@')[0].padEnd(6)}  ${got.body}`);
  }

  for (const session of sessions) {
    const { code } = await session.close();
    if (code !== 1000) throw new Error(`${session.jid}: the WebSocket closed with ${code}`);
  }
  say('Both have logged out; the WebSockets closed with code 1000.');
}

async function serve() {
  const strophe = join(here, '..', 'real', 'node_modules', 'strophe.js', 'dist', 'strophe.umd.min.js');
  const settings = { websocket: jabsocket.url, domain: 'localhost', users: prosody.users };
  const files = {
    '/': ['text/html; charset=utf-8', readFileSync(join(here, 'index.html'))],
    '/strophe.js': ['text/javascript; charset=utf-8', readFileSync(strophe)],
    '/settings.json': ['application/json', JSON.stringify(settings)],
  };
  const server = createServer((request, response) => {
    const file = files[request.url.split('?')[0]];
    response.writeHead(file ? 200 : 404, { 'Content-Type': file ? file[0] : 'text/plain', 'Cache-Control': 'no-store' });
    response.end(file ? file[1] : 'not found\n');
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return `http://127.0.0.1:${server.address().port}/`;
}

let leaving = false;
async function leave(status) {
  // Ctrl-C comes from the terminal and, once more, from demo.sh.
  if (leaving) return;
  leaving = true;
  try {
    await stop();
  } catch (error) {
    console.error(`demo: ${error.message}`);
    status ||= 1;
  }
  process.exit(status);
}

for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) {
  // The library that starts the processes would end at once.
  process.removeAllListeners(signal);
  process.on(signal, () => leave(once ? status : 0));
}

try {
  await chat();
  if (once) {
    say('Done.');
    await leave(0);
  }
  const page = await serve();
  say('Your turn. Open these two pages in a browser on this machine and chat:');
  detail(Object.keys(prosody.users).map((user) => `${page}#${user}`).join('\n'));
  detail('Ctrl-C ends everything.');
} catch (error) {
  if (!leaving) {
    console.error(`demo: ${error.message}`);
    if (jabsocket) console.error(jabsocket.log());
  }
  await leave(1);
}
