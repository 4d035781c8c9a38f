// stanza.js.

import '../lib/globals.mjs';
import { createRequire } from 'node:module';
import { createClient } from 'stanza';
import { show } from '../lib/show.mjs';
import { Inbox, closeOf, leaveAndWait, within, PATIENCE_MS } from '../lib/wait.mjs';

/** Headers of a page for the WebSockets of later sessions. */
let origin;
const platform = createRequire(import.meta.url)('stanza/platform/node');
platform.WebSocket = class extends platform.WebSocket {
  constructor(url, protocol) {
    super(url, protocol, { origin });
  }
};

/** With the mechanism 'any', stanza.js chooses. */
export async function login(options) {
  ({ origin } = options);
  const session = new StanzaSession(options);
  const enabled = new Promise((resolve) => session.client.once('sm', resolve));
  await session.connect();
  if (options.streamManagement) {
    const answer = await within(PATIENCE_MS, 'stanza.js’s <enabled/>', enabled);
    if (answer.type !== 'enabled') throw new Error(`stanza.js: ${show(answer)}`);
  }
  return session;
}

class StanzaSession {
  kind = 'stanza';
  messages = new Inbox();
  presences = new Inbox();

  constructor({ url, domain, user, password, mechanism, resource, streamManagement = false }) {
    this.client = createClient({
      jid: `${user}@${domain}`,
      resource,
      credentials: { username: user, password, host: domain, realm: domain, serviceName: domain, serviceType: 'xmpp' },
      transports: { websocket: url, bosh: false },
      useStreamManagement: streamManagement,
      allowResumption: streamManagement,
      autoReconnect: false,
    });
    const wanted = mechanism === 'SCRAM' ? ['SCRAM-SHA-1', 'SCRAM-SHA-256'] : ['PLAIN'];
    for (const name of ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256', 'SCRAM-SHA-1-PLUS', 'SCRAM-SHA-1', 'DIGEST-MD5', 'OAUTHBEARER', 'X-OAUTH2', 'PLAIN', 'ANONYMOUS', 'EXTERNAL']) {
      if (mechanism !== 'any' && !wanted.includes(name)) this.client.sasl.disable(name);
    }
    this.client.on('message', ({ from, body }) => body !== undefined && this.messages.push({ from, body }));
    this.client.on('presence', ({ from, type = 'available', show, status }) => this.presences.push({ from, type, show, status }));
  }

  get ws() {
    return this.client.transport?.socket;
  }

  /** Resolves at session:started or, after a lost connection, at stream:management:resumed. */
  connect() {
    const connected = new Promise((resolve, reject) => {
      const settle = (action) => (value) => {
        for (const [event, listener] of listeners) this.client.off(event, listener);
        action(value);
      };
      const listeners = [
        ['session:started', settle(() => resolve('started'))],
        ['stream:management:resumed', settle(() => resolve('resumed'))],
        ['auth:failed', settle(() => reject(new Error('stanza.js: auth:failed')))],
        ['stream:error', settle((error) => reject(new Error(`stanza.js: ${show(error)}`)))],
        ['disconnected', settle(() => reject(new Error('stanza.js: disconnected')))],
      ];
      for (const [event, listener] of listeners) this.client.on(event, listener);
    });
    this.client.connect();
    return within(PATIENCE_MS, 'stanza.js’s session', connected).then((how) => {
      this.jid = this.client.jid;
      return how;
    });
  }

  async roster() {
    const { items } = await within(PATIENCE_MS, 'the roster', this.client.getRoster());
    return items.map(({ jid, subscription }) => ({ jid, subscription }));
  }

  sendMessage(to, body) {
    this.client.sendMessage({ to, type: 'chat', body });
  }

  presence({ type, to, show, status } = {}) {
    this.client.sendPresence({ type, to, show, status });
  }

  async resume() {
    const how = await this.connect();
    if (how !== 'resumed') throw new Error(`stanza.js has ${how} a session instead of resuming`);
  }

  sendRaw(text) {
    this.ws.send(text);
  }

  close() {
    return leaveAndWait(this.ws, () => new Promise((resolve) => {
      this.client.once('disconnected', resolve);
      this.client.disconnect();
    }));
  }

  /** Resets the TCP connection and waits until stanza.js has noticed. */
  async reset() {
    const closed = closeOf(this.ws);
    const noticed = new Promise((resolve) => this.client.once('disconnected', resolve));
    this.ws._socket.resetAndDestroy();
    await closed;
    await within(PATIENCE_MS, 'stanza.js’s disconnected', noticed);
  }
}
