// Finds the WebSocket of a domain in its host-meta (XEP-0156), in the page and in Node.js.

const RELATION = 'urn:xmpp:alt-connections:websocket';

/** The first WebSocket in the JSON document at the URL `hostMeta`. */
export async function endpointOf(hostMeta) {
  const response = await fetch(hostMeta);
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  const { links = [] } = await response.json();
  const link = links.find(({ rel }) => rel === RELATION);
  if (!link) throw new Error('no WebSocket in it');
  return link.href;
}
