// The pages for the browsers, served over https from an origin other than the XMPP
// domain: the chat page of the demo with Strophe.js, and Converse.js.

import { readFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answer, page } from '../../demo/page.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const CONVERSE = '/converse/';
const dist = join(here, '..', 'node_modules', 'converse.js', 'dist');
const TYPES = {
  '.css': 'text/css', '.js': 'text/javascript; charset=utf-8', '.json': 'application/json', '.mp3': 'audio/mpeg',
  '.ogg': 'audio/ogg', '.png': 'image/png', '.svg': 'image/svg+xml', '.wasm': 'application/wasm', '.woff2': 'font/woff2',
};

/**
 * The chat page is at `/` for `domain`, and at `/elsewhere/` for one whose
 * host-meta leads to the WebSocket `elsewhere`; Converse.js is at `/converse/`, as
 * is everything that it fetches.
 */
export async function servePages({ certificate, domain, users, elsewhere }) {
  const hostMeta = `https://${domain}/.well-known/host-meta.json`;
  const link = { rel: 'urn:xmpp:alt-connections:websocket', href: elsewhere };
  const files = {
    ...page({ hostMeta, domain, users }),
    ...page({ hostMeta: '/elsewhere/host-meta.json', domain, users }, '/elsewhere/'),
    '/elsewhere/host-meta.json': ['application/json', JSON.stringify({ links: [link] })],
    [CONVERSE]: ['text/html; charset=utf-8', readFileSync(join(here, 'converse.html'))],
  };
  const missing = [];
  const held = new Map();
  const server = createServer({ key: readFileSync(certificate.key), cert: readFileSync(certificate.certificate) }, async (request, response) => {
    const { pathname } = new URL(request.url, 'https://localhost');
    const meanwhile = held.get(pathname);
    held.delete(pathname);
    await meanwhile?.();
    if (!files[pathname] && pathname.startsWith(CONVERSE)) {
      const path = join(dist, normalize(decodeURIComponent(pathname.slice(CONVERSE.length))));
      const body = await readFile(path).catch(() => undefined);
      if (body) files[pathname] = [TYPES[extname(path)] ?? 'application/octet-stream', body];
    }
    if (!files[pathname]) missing.push(pathname);
    answer(files, request, response);
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: server.address().port,
    /** Requested paths that do not exist. */
    missing,
    /** Delays the next request for `path` and runs `meanwhile`; resolves with its result. */
    hold: (path, meanwhile) => new Promise((resolve, reject) => {
      held.set(path, () => meanwhile().then(resolve, reject));
    }),
    stop: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
