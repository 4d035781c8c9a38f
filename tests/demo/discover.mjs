// Where a domain has its WebSocket, as its host-meta says (XEP-0156): for the page
// and for Node.js alike.

const RELATION = 'urn:xmpp:alt-connections:websocket';

/** The first WebSocket that the JSON document at the URL `hostMeta` names. */
export async function endpointOf(hostMeta) {
  const response = await fetch(hostMeta);
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  const { links = [] } = await response.json();
  const link = links.find(({ rel }) => rel === RELATION);
  if (!link) throw new Error('no WebSocket in it');
  return link.href;
}
