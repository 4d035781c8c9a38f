// Chromium without a window, driven by Playwright, and what its pages do: their
// requests, their WebSockets, their complaints. It finds the hosts it is told of
// and no others, and believes the keys it is told of, else what it always believes.

import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { Inbox, within } from '../lib/wait.mjs';

/** What anything in a page may take: a loaded machine is slow to show it. */
export const PATIENCE_MS = 45_000;

const program = process.env.CHROMIUM ?? '/usr/bin/chromium';
const top = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const pictures = resolve(top, process.env.CARGO_TARGET_DIR ?? 'target', 'screenshots');

/**
 * Starts it, without the pictures of an earlier run. `hosts`: the port on loopback
 * that stands for each host name, whatever port a URL says. `certificates`: files;
 * their keys need no authority.
 */
export async function startChromium({ hosts, certificates }) {
  if (!existsSync(program)) throw new Error(`there is no ${program}: tests/install.sh`);
  rmSync(pictures, { recursive: true, force: true });
  const rules = Object.entries(hosts).map(([host, port]) => `MAP ${host} 127.0.0.1:${port}`);
  const browser = await chromium.launch({
    executablePath: program,
    timeout: PATIENCE_MS,
    // The tests' own handlers end everything, and first of all in order.
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    args: [
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      `--host-resolver-rules=${[...rules, 'MAP * ~NOTFOUND'].join(', ')}`,
      `--ignore-certificate-errors-spki-list=${certificates.map(keyHash).join()}`,
    ],
  });
  return {
    version: browser.version(),
    /** A user: storage and a page of their own. */
    visitor: async (name) => {
      const visitor = new Visitor(name, await browser.newContext({ locale: 'en-US', viewport: { width: 900, height: 700 } }));
      await visitor.prepare();
      return visitor;
    },
    stop: () => browser.close(),
  };
}

/** What Chromium knows a certificate's key by. */
function keyHash(file) {
  const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

class Visitor {
  /** URLs of all requests, WebSockets among them. */
  requests = [];
  /** Text messages of all WebSockets: `{ sent, text }`. */
  frames = [];
  /** What became of WebSockets: `{ event, url, protocol, code }`. */
  sockets = new Inbox();
  /** What the console says, and exceptions that nobody caught. */
  complaints = new Inbox();
  exceptions = [];

  constructor(name, context) {
    Object.assign(this, { name, context });
  }

  async prepare() {
    this.context.setDefaultTimeout(PATIENCE_MS);
    this.context.on('request', (request) => this.requests.push(request.url()));
    await this.context.exposeBinding('reportWebSocket', (_, event) => this.sockets.push(event));
    await this.context.addInitScript(watchWebSockets);
    const page = await this.context.newPage();
    page.on('console', (message) => this.complaints.push(message.text()));
    page.on('pageerror', (error) => this.exceptions.push(error.message));
    page.on('websocket', (socket) => {
      this.requests.push(socket.url());
      socket.on('framesent', ({ payload }) => this.frames.push({ sent: true, text: String(payload) }));
      socket.on('framereceived', ({ payload }) => this.frames.push({ sent: false, text: String(payload) }));
    });
    this.page = page;
  }

  socket(event) {
    return this.sockets.next((item) => item.event === event, `${this.name}: a WebSocket’s ${event}`, PATIENCE_MS);
  }

  complaint(pattern) {
    return this.complaints.next((text) => pattern.test(text), `${this.name}: ${pattern} in the console`, PATIENCE_MS);
  }

  /** Resolves once an element that `selector` finds shows exactly `text`. */
  async sees(selector, text) {
    try {
      await this.page.waitForFunction(([css, wanted]) =>
        [...document.querySelectorAll(css)].some((node) => node.checkVisibility() && node.textContent === wanted), [selector, text]);
    } catch (error) {
      const there = await this.page.locator(selector).allTextContents();
      throw new Error(`${this.name}: no ${selector} shows ${JSON.stringify(text.slice(0, 80))} but ${JSON.stringify(there).slice(0, 300)}: ${error.message}`);
    }
  }

  /**
   * Reloads and runs `meanwhile` while the request for a file whose path ends in
   * `held` waits, with which the page needs to go on.
   */
  async reload(held, meanwhile) {
    const pattern = (url) => url.pathname.endsWith(held);
    let arrived;
    const arrival = new Promise((resolved) => { arrived = resolved; });
    const settled = arrival.then(meanwhile);
    await this.page.route(pattern, async (route) => {
      arrived();
      await settled.catch(() => {});
      await route.continue();
    }, { times: 1 });
    await Promise.all([this.page.reload(), within(PATIENCE_MS, `${this.name}: the request for ${held}`, settled)]);
  }

  /** Keeps what the page looks like; the file. */
  async picture(name) {
    mkdirSync(pictures, { recursive: true });
    const path = join(pictures, `${name}.png`);
    await this.page.screenshot({ path });
    return path;
  }
}

/** Runs in each page before anything of its own. */
function watchWebSockets() {
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      const report = (event, more) => window.reportWebSocket({ event, url: this.url, protocol: this.protocol, ...more });
      this.addEventListener('open', () => report('open'));
      this.addEventListener('close', ({ code, wasClean }) => report('close', { code, wasClean }));
    }
  };
}
