// The demonstration for tests/demo.sh: Prosody, jabsocket in front of it, two users who
// chat, and then a page to chat with.

import { createServer } from 'node:http';
import { login } from '../real/clients/strophe.mjs';
import { startJabsocket } from '../real/daemon.mjs';
import { freePort } from '../real/lib/process.mjs';
import { startProsody } from '../real/servers/prosody.mjs';
import { endpointOf } from './discover.mjs';
import { answer, page } from './page.mjs';

const once = process.argv.includes('--once');
let step = Number(process.env.DEMO_STEP ?? 1);
const say = (text) => console.log(`${step++}. ${text}`);
const detail = (text) => console.log(text.replace(/^(?=.)/gm, '     '));

let prosody;
let jabsocket;
let hostMeta;

async function stop() {
  for (const part of [jabsocket, prosody]) await part?.stop();
}

async function chat() {
  prosody = await startProsody({ domain: 'localhost' });
  const users = Object.entries(prosody.users);
  say('An XMPP server, Prosody, runs on loopback and has two users:');
  detail(`xmpp      ${prosody.address} (plain TCP)\n${users.map(([user, password]) => `${user.padEnd(9)} ${user}@localhost, password ${password}`).join('\n')}`);

  const port = await freePort();
  jabsocket = await startJabsocket([prosody], { port, settings: `host_meta: ws://127.0.0.1:${port}/xmpp-websocket\n` });
  hostMeta = `http://127.0.0.1:${port}/.well-known/host-meta.json`;
  say('jabsocket runs in front of it, with this configuration:');
  detail(jabsocket.config);
  const url = await endpointOf(hostMeta);
  detail(`host-meta ${hostMeta}\nwebsocket ${url}, as host-meta says`);

  say('Both log in with Strophe.js, as a web page would, over WebSocket:');
  const sessions = [];
  for (const [user, password] of users) {
    const options = { url, domain: 'localhost', user, password, mechanism: 'SCRAM', resource: 'demo' };
    const session = await login(options);
    session.presence();
    sessions.push(session);
    detail(`${session.jid} is online`);
  }
  const [romeo, juliet] = sessions;

  say('They chat:');
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
  const files = page({ hostMeta, domain: 'localhost', users: prosody.users });
  const server = createServer((request, response) => answer(files, request, response));
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return `http://127.0.0.1:${server.address().port}/`;
}

let leaving = false;
async function leave(status) {
  // Ctrl-C arrives from the terminal and again from demo.sh.
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
  // Otherwise the process library would exit at once.
  process.removeAllListeners(signal);
  process.on(signal, () => leave(once ? status : 0));
}

try {
  await chat();
  if (once) {
    say('Done.');
    await leave(0);
  }
  const address = await serve();
  say('Your turn. Open these two pages in a browser on this machine and chat:');
  detail(Object.keys(prosody.users).map((user) => `${address}#${user}`).join('\n'));
  detail('Ctrl-C ends everything.');
} catch (error) {
  if (!leaving) {
    console.error(`demo: ${error.message}`);
    if (jabsocket) console.error(jabsocket.log());
  }
  await leave(1);
}
