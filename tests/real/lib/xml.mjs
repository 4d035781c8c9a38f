// XML functions for the tests, based on xmldom.

import { DOMParser } from '@xmldom/xmldom';

export const NS = {
  client: 'jabber:client',
  stream: 'http://etherx.jabber.org/streams',
  framing: 'urn:ietf:params:xml:ns:xmpp-framing',
  sasl: 'urn:ietf:params:xml:ns:xmpp-sasl',
  bind: 'urn:ietf:params:xml:ns:xmpp-bind',
  session: 'urn:ietf:params:xml:ns:xmpp-session',
  roster: 'jabber:iq:roster',
  sm: 'urn:xmpp:sm:3',
};

/** The root element of `text`, which must be a complete document. */
export function parse(text) {
  if (!text.startsWith('<')) throw new Error(`does not start with <: ${JSON.stringify(text.slice(0, 200))}`);
  return new DOMParser({
    onError: (level, message) => {
      throw new Error(`${level}: ${message} in ${JSON.stringify(text.slice(0, 200))}`);
    },
  }).parseFromString(text, 'text/xml').documentElement;
}

export const is = (element, name, ns) => element.localName === name && (ns === undefined || element.namespaceURI === ns);
export const children = (element) => [...element.childNodes].filter((node) => node.nodeType === 1);
export const child = (element, name, ns) => children(element).find((node) => is(node, name, ns));
export const textOf = (element, name) => child(element, name)?.textContent;

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };
export const escape = (text) => text.replace(/[&<>"']/g, (c) => ENTITIES[c]);
