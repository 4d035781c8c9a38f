// Strophe.js, which includes a DOM (xmldom) and a WebSocket (ws) for Node.

import '../lib/globals.mjs';
import { $iq, $msg, $pres, Strophe } from 'strophe.js';
import { Inbox, closeOf, leaveAndWait, within, PATIENCE_MS } from '../lib/wait.mjs';
import { NS } from '../lib/xml.mjs';

Strophe.setLogLevel(Strophe.LogLevel.FATAL);

const MECHANISMS = {
  SCRAM: ['SASLSHA1', 'SASLSHA256', 'SASLSHA512'],
  PLAIN: ['SASLPlain'],
};
const STATUS = Object.fromEntries(Object.entries(Strophe.Status).map(([name, number]) => [number, name]));

export async function login(options) {
  const session = new StropheSession(options);
  await session.connect();
  if (options.streamManagement) await session.sm.next((event) => event === 'enabled', 'Strophe’s <enabled/>');
  return session;
}

class StropheSession {
  kind = 'strophe';
  messages = new Inbox();
  presences = new Inbox();
  statuses = new Inbox();

  constructor(options) {
    this.options = options;
    this.connection = new Strophe.Connection(options.url, {
      mechanisms: MECHANISMS[options.mechanism].map((name) => Strophe[name]),
      enableStreamManagement: options.streamManagement ?? false,
    });
    this.sm = new Inbox();
    if (this.connection.sm) {
      this.connection.sm.onEnabled = () => this.sm.push('enabled');
      this.connection.sm.onResumed = () => this.sm.push('resumed');
      this.connection.sm.onFailed = () => this.sm.push('failed');
    }
  }

  get ws() {
    return this.connection._proto.socket;
  }

  /** Adds the handlers. Strophe removes them at each reset. */
  async connect() {
    const { user, domain, resource, password } = this.options;
    this.statuses.take();
    this.connection.connect(`${user}@${domain}/${resource}`, password, (status, condition) => {
      if (status === Strophe.Status.CONNECTED) this.#listen();
      this.statuses.push({ status, condition });
    });
    const final = ['CONNECTED', 'CONNFAIL', 'AUTHFAIL', 'ERROR', 'CONNTIMEOUT', 'DISCONNECTED'].map((name) => Strophe.Status[name]);
    const { status, condition } = await this.statuses.next((item) => final.includes(item.status), 'Strophe’s status CONNECTED');
    if (status !== Strophe.Status.CONNECTED) throw new Error(`Strophe: ${STATUS[status]} ${condition ?? ''}`);
    this.jid = this.connection.jid;
  }

  #listen() {
    this.connection.addHandler((stanza) => {
      const body = [...stanza.childNodes].find((node) => node.nodeName === 'body');
      if (body) this.messages.push({ from: stanza.getAttribute('from'), body: body.textContent });
      return true;
    }, null, 'message');
    this.connection.addHandler((stanza) => {
      const text = (name) => [...stanza.childNodes].find((node) => node.nodeName === name)?.textContent;
      this.presences.push({
        from: stanza.getAttribute('from'),
        type: stanza.getAttribute('type') || 'available',
        show: text('show'),
        status: text('status'),
      });
      return true;
    }, null, 'presence');
  }

  roster() {
    const request = new Promise((resolve, reject) => {
      this.connection.sendIQ($iq({ type: 'get' }).c('query', { xmlns: NS.roster }), resolve, reject);
    });
    return within(PATIENCE_MS, 'the roster', request).then((answer) =>
      [...answer.getElementsByTagName('item')]
        .map((item) => ({ jid: item.getAttribute('jid'), subscription: item.getAttribute('subscription') })));
  }

  sendMessage(to, body) {
    this.connection.send($msg({ to, type: 'chat', id: this.connection.getUniqueId() }).c('body').t(body));
  }

  presence({ type, to, show, status } = {}) {
    const stanza = $pres(Object.fromEntries(Object.entries({ type, to }).filter(([, value]) => value)));
    if (show) stanza.c('show').t(show).up();
    if (status) stanza.c('status').t(status).up();
    this.connection.send(stanza);
  }

  async resume() {
    this.connection.reset();
    await this.connect();
    if (!this.connection.hasResumed()) throw new Error(`Strophe has not resumed: ${this.sm.take()}`);
  }

  sendRaw(text) {
    this.connection.flush();
    this.ws.send(text);
  }

  /** Sends unavailable presence, <close/> and the Close frame in sequence. */
  close() {
    return leaveAndWait(this.ws, async () => {
      this.connection.disconnect('leaving');
      await this.statuses.next(({ status }) => status === Strophe.Status.DISCONNECTED, 'Strophe’s status DISCONNECTED');
    });
  }

  /** Resets the TCP connection and waits until Strophe has noticed. */
  async reset() {
    const closed = closeOf(this.ws);
    this.connection.flush();
    this.ws._socket.resetAndDestroy();
    await closed;
    await this.statuses.next(({ status }) => status === Strophe.Status.DISCONNECTED, 'Strophe’s status DISCONNECTED');
  }
}
