// nbxmpp, the library of the desktop client Gajim: Python, with the WebSocket of libsoup. Each
// session is a process that runs nbxmpp_session.py.

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from '../lib/process.mjs';
import { Inbox } from '../lib/wait.mjs';

const SCRIPT = join(dirname(fileURLToPath(import.meta.url)), 'nbxmpp_session.py');

export async function login(options) {
  const session = new NbxmppSession(options);
  await session.online('connected');
  return session;
}

class NbxmppSession {
  kind = 'nbxmpp';
  messages = new Inbox();
  presences = new Inbox();
  events = new Inbox();
  errors = [];

  constructor({ url, domain, user, password, mechanism, resource }) {
    const name = mechanism === 'SCRAM' ? 'SCRAM-SHA-1' : 'PLAIN';
    // Debian's Python has the library.
    this.child = new Child('nbxmpp', '/usr/bin/python3', [SCRIPT], { input: true });
    this.child.listen((line) => this.#event(line), () => this.#fail());
    this.#write({ url, domain, user, password, mechanism: name, resource });
  }

  /** For `World.sweep`. */
  ws = { terminate: () => this.child.stop('SIGKILL') };

  #event(line) {
    if (!line.startsWith('{')) return;
    const { event, ...more } = JSON.parse(line);
    if (event === 'message') this.messages.push(more.item);
    else if (event === 'presence') this.presences.push(more.item);
    else this.events.push({ event, at: performance.now(), ...more });
  }

  #fail() {
    const error = new Error(`the process of nbxmpp has ended\n${this.child.tail()}`);
    for (const inbox of [this.messages, this.presences, this.events]) inbox.fail(error);
  }

  #write(value) {
    this.child.process.stdin.write(`${JSON.stringify(value)}\n`);
  }

  #next(...events) {
    return this.events.next(({ event }) => events.includes(event), `nbxmpp’s ${events.join(' or ')}`);
  }

  async online(how) {
    const { event, jid, error } = await this.#next('connected', 'resume-successful', 'resume-failed', 'connection-failed', 'disconnected');
    if (event !== how) throw new Error(`nbxmpp: ${event}: ${error}`);
    this.jid = jid;
  }

  async roster() {
    this.#write(['roster']);
    return (await this.#next('roster')).items;
  }

  sendMessage(to, body) {
    this.#write(['message', to, body]);
  }

  presence({ type, to, show, status } = {}) {
    this.#write(['presence', type, to, show, status]);
  }

  sendRaw(text) {
    this.#write(['raw', text]);
  }

  async close() {
    const start = performance.now();
    this.#write(['close']);
    const [library, socket] = await Promise.all([this.#next('disconnected'), this.#next('closed')]);
    await this.child.stop();
    return { code: socket.code, reason: socket.reason, libraryMs: library.at - start, socketMs: socket.at - start };
  }

  /** Closes the TCP connection and waits until nbxmpp has noticed. */
  async reset() {
    this.#write(['reset']);
    await this.#next('disconnected');
  }

  async resume() {
    this.#write(['connect']);
    await this.online('resume-successful');
  }
}
