// RFC 7395 without a library, strict about what comes in.

import { NS, escape, is, parse } from '../lib/xml.mjs';
import { WireClient } from './wire.mjs';

const RFC7395 = {
  header: ({ domain }) => `<open xmlns='${NS.framing}' to='${escape(domain)}' version='1.0' xml:lang='en'/>`,
  footer: `<close xmlns='${NS.framing}'/>`,
  nextHeader: (client) => client.next('open', NS.framing),
  nextFooter: (client) => client.next('close', NS.framing),
  /** One message is one document, with every declaration that it needs. */
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

/** Logged in, neither bound nor resumed yet. */
export function authenticate(options) {
  return new RawClient(options.url, options).login();
}

export async function login(options) {
  return (await authenticate(options)).bind(options.resource);
}
