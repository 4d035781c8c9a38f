// Values in error messages.

import { inspect } from 'node:util';

/** Any value in one line: elements as XML, other objects without nested values. */
export function show(value) {
  const speaks = typeof value?.toString === 'function' && value.toString !== Object.prototype.toString && !Array.isArray(value);
  return speaks ? String(value) : inspect(value, { depth: 0, breakLength: Infinity });
}
