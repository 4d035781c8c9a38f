// The dialect before RFC 7395 (draft-moffitt): the unclosed stream header, each
// first-level element and the end tag are one message each.

import { NS, children, escape, is, parse } from '../lib/xml.mjs';
import { WireClient } from './wire.mjs';

const END = '</stream:stream>';

const DRAFT = {
  header: ({ domain }) =>
    `<stream:stream to='${escape(domain)}' xmlns='${NS.client}' xmlns:stream='${NS.stream}' version='1.0'>`,
  footer: END,
  nextHeader: (client) => client.elements.next((element) => is(element, 'stream', NS.stream) && !element.end, 'the stream header'),
  nextFooter: (client) => client.elements.next((element) => element.end, 'the end tag'),
  /** A first-level element inherits the declarations of the last stream header. */
  read(text, client) {
    if (text.trim() === END) return Object.assign(parse(client.root + END), { end: true });
    if (/^(<\?xml[^>]*\?>\s*)?<stream:stream[\s>]/.test(text)) {
      client.root = text;
      return parse(text + END);
    }
    const elements = children(parse(client.root + text + END));
    if (elements.length !== 1) throw new Error(`${elements.length} elements in one message: ${text.slice(0, 200)}`);
    return elements[0];
  },
};

class DraftClient extends WireClient {
  kind = 'draft';
  dialect = DRAFT;
}

export async function login(options) {
  return (await new DraftClient(options.url, options).login()).bind(options.resource);
}
