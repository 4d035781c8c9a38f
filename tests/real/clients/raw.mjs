// RFC 7395 without a library, with strict checks of received messages.

import { within, PATIENCE_MS } from '../lib/wait.mjs';
import { NS, children, escape, is, parse } from '../lib/xml.mjs';
import { WireClient } from './wire.mjs';

const RFC7395 = {
  header: ({ domain }) => `<open xmlns='${NS.framing}' to='${escape(domain)}' version='1.0' xml:lang='en'/>`,
  footer: `<close xmlns='${NS.framing}'/>`,
  nextHeader: (client) => client.next('open', NS.framing),
  nextFooter: (client) => client.next('close', NS.framing),
  /** Each message is a complete document with all its declarations. */
  read(text) {
    const element = parse(text);
    if (text.trimEnd() !== text) throw new Error(`ends in white space: ${JSON.stringify(text.slice(-100))}`);
    if (is(element, 'stream', NS.stream)) throw new Error('a draft header came');
    if (!element.namespaceURI) throw new Error(`no namespace: ${text.slice(0, 200)}`);
    return element;
  },
};

class RawClient extends WireClient {
  kind = 'raw';
  dialect = RFC7395;
}

/** Expects a stream error instead of a stream; returns its condition and the WebSocket's close. */
export async function refusal(options) {
  const client = new RawClient(options.url, options);
  await within(PATIENCE_MS, 'the opening handshake', client.opened);
  client.send(RFC7395.header(options));
  const error = await client.next('error', NS.stream);
  await client.next('close', NS.framing);
  client.ws.close(1000);
  const { code } = await within(PATIENCE_MS, 'the WebSocket’s close', client.closed);
  return { condition: children(error)[0].localName, code };
}

/** Logs in without binding or resuming. */
export function authenticate(options) {
  return new RawClient(options.url, options).login();
}

export async function login(options) {
  return (await authenticate(options)).bind(options.resource);
}
