// The chat page and its files, for the demo and for the test in a real browser.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const strophe = join(here, '..', 'real', 'node_modules', 'strophe.js', 'dist', 'strophe.umd.min.js');

/**
 * The files to serve by path, as [content type, body]: the page at `at`, which ends in a
 * slash, and the rest below it. `settings`: `hostMeta`, the URL of host-meta.json;
 * `domain`; `users`, two names with their passwords.
 */
export function page(settings, at = '/') {
  return {
    [at]: ['text/html; charset=utf-8', readFileSync(join(here, 'index.html'))],
    [`${at}discover.js`]: ['text/javascript; charset=utf-8', readFileSync(join(here, 'discover.mjs'))],
    [`${at}strophe.js`]: ['text/javascript; charset=utf-8', readFileSync(strophe)],
    [`${at}settings.json`]: ['application/json', JSON.stringify(settings)],
  };
}

/** Answers a request with the file at its path. */
export function answer(files, request, response) {
  const file = files[new URL(request.url, 'http://localhost').pathname];
  response.writeHead(file ? 200 : 404, { 'Content-Type': file ? file[0] : 'text/plain', 'Cache-Control': 'no-store' });
  response.end(file ? file[1] : 'not found\n');
}
