// SPDX-License-Identifier: Apache-2.0
// The value of a key, made when it is first asked for.

/** Gives what the map has, or puts what is made. */
export function entry<K, V extends NonNullable<unknown>>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) map.set(key, (value = make()))
  return value
}
