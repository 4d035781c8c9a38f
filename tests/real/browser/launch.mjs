// Headless Chromium and Firefox, driven by Puppeteer: Chromium over the DevTools protocol,
// Firefox over WebDriver BiDi. Each has its own profile and uses a proxy on loopback for
// all requests. Chromium trusts the given keys, Firefox the tests' certificate authority.

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core/internal/puppeteer-core-browser.js';
import { Child, temporaryDirectory } from '../lib/process.mjs';
import { PATIENCE_MS, Visitor } from './visitor.mjs';

const SIZE = { width: 900, height: 700 };

export const BROWSERS = {
  Chromium: {
    program: process.env.CHROMIUM ?? '/usr/bin/chromium',
    prepare: chromium,
    ready: /^DevTools listening on (ws:\S+)/,
    protocol: 'cdp',
  },
  Firefox: {
    program: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    prepare: firefox,
    // Otherwise Firefox requests settings from Mozilla, despite its preferences.
    env: { MOZ_REMOTE_SETTINGS_DEVTOOLS: '1' },
    ready: /^WebDriver BiDi listening on (ws:\S+)/,
    protocol: 'webDriverBiDi',
  },
};

/**
 * Starts the browser `name`. It connects only through `proxy` and trusts the files in
 * `certificates`, signed by `authority`.
 */
export async function startBrowser(name, { proxy, authority, certificates }) {
  const { program, prepare, env, ready, protocol } = BROWSERS[name];
  if (!existsSync(program)) throw new Error(`there is no ${program}: tests/install.sh`);
  const profile = temporaryDirectory(name.toLowerCase());
  const child = new Child(name, program, prepare(profile, { proxy, authority, certificates }), { cwd: profile, env: { HOME: profile, ...env } });
  let browser;
  try {
    const [, address] = await child.waitForLine(ready, { ms: PATIENCE_MS });
    const browserWSEndpoint = protocol === 'cdp' ? address : `${address}/session`;
    browser = await puppeteer.connect({ browserWSEndpoint, protocol, defaultViewport: SIZE, protocolTimeout: PATIENCE_MS });
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return {
    version: await browser.version(),
    /** A user with a separate storage and window. */
    visitor: async (user) => {
      const visitor = new Visitor(`${name.toLowerCase()}-${user}`, await browser.createBrowserContext());
      await visitor.prepare();
      return visitor;
    },
    async stop() {
      await browser.close();
      await child.stop();
    },
  };
}

/** Chromium's command line. */
function chromium(profile, { proxy, certificates }) {
  return [
    '--headless', `--user-data-dir=${profile}`, '--remote-debugging-port=0', '--no-sandbox', '--lang=en-US',
    '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--mute-audio', '--password-store=basic',
    '--no-first-run', '--no-default-browser-check', '--disable-extensions', '--disable-component-extensions-with-background-pages',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-default-apps', '--disable-breakpad',
    '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
    '--disable-features=AutofillServerCommunication,MediaRouter,NetworkTimeServiceQuerying,OptimizationHints,Translate',
    `--proxy-server=127.0.0.1:${proxy.port}`, '--proxy-bypass-list=<-loopback>', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    `--ignore-certificate-errors-spki-list=${certificates.map(keyHash).join()}`,
    'about:blank',
  ];
}

/** Chromium's fingerprint of a certificate's key. */
function keyHash(file) {
  const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

/** Writes Firefox's profile; returns its command line. */
function firefox(profile, { proxy, authority }) {
  const database = ['-d', `sql:${profile}`];
  execFileSync('certutil', ['-N', ...database, '--empty-password'], { stdio: 'pipe' });
  execFileSync('certutil', ['-A', ...database, '-n', 'tests', '-t', 'C,,', '-i', authority.file], { stdio: 'pipe' });
  const settings = Object.entries(preferences(proxy.port)).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});\n`);
  writeFileSync(join(profile, 'user.js'), settings.join(''));
  return ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0', 'about:blank'];
}

function preferences(port) {
  return {
    'network.proxy.type': 1,
    'network.proxy.http': '127.0.0.1',
    'network.proxy.http_port': port,
    'network.proxy.ssl': '127.0.0.1',
    'network.proxy.ssl_port': port,
    'network.proxy.no_proxies_on': '',
    'network.proxy.allow_hijacking_localhost': true,
    // No requests for updates or reports; the proxy would refuse them.
    'network.proxy.failover_direct': false,
    'network.trr.mode': 5,
    'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false,
    'network.dns.disablePrefetch': true,
    'network.prefetch-next': false,
    'network.http.speculative-parallel-limit': 0,
    'app.update.disabledForTesting': true,
    'app.normandy.enabled': false,
    'browser.region.update.enabled': false,
    'browser.safebrowsing.downloads.remote.enabled': false,
    'browser.safebrowsing.malware.enabled': false,
    'browser.safebrowsing.phishing.enabled': false,
    'browser.safebrowsing.update.enabled': false,
    'browser.newtabpage.enabled': false,
    'browser.startup.page': 0,
    'browser.startup.homepage': 'about:blank',
    'browser.aboutwelcome.enabled': false,
    'browser.shell.checkDefaultBrowser': false,
    'datareporting.policy.dataSubmissionEnabled': false,
    'dom.push.connection.enabled': false,
    'extensions.getAddons.cache.enabled': false,
    'extensions.systemAddon.update.enabled': false,
    'extensions.update.enabled': false,
    'media.gmp-manager.updateEnabled': false,
    'security.OCSP.enabled': 0,
    'services.settings.server': 'data:,#no-remote-settings',
    'toolkit.telemetry.enabled': false,
    'toolkit.telemetry.server': 'data:,',
    'intl.accept_languages': 'en-US, en',
    'intl.locale.requested': 'en-US',
  };
}
