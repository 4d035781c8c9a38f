// What a test's complaint says of a value.

import { inspect } from 'node:util';

/** One line for any value: elements as XML, other objects without what lies deeper in them. */
export function show(value) {
  const speaks = typeof value?.toString === 'function' && value.toString !== Object.prototype.toString && !Array.isArray(value);
  return speaks ? String(value) : inspect(value, { depth: 0, breakLength: Infinity });
}
