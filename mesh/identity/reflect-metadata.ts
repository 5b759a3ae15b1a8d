// SPDX-License-Identifier: Apache-2.0
// The three functions of the Reflect metadata proposal that @peculiar/x509's dependency container calls.
// Importing this file is its whole effect; a real polyfill that is already there is left alone.

type MetadataKey = string | symbol

interface ReflectMetadata {
  getMetadata?: (key: MetadataKey, target: object) => unknown
  getOwnMetadata?: (key: MetadataKey, target: object) => unknown
  defineMetadata?: (key: MetadataKey, value: unknown, target: object) => void
}

function install(reflect: ReflectMetadata): void {
  if (reflect.getMetadata !== undefined) return
  const stored = new WeakMap<object, Map<MetadataKey, unknown>>()
  const getOwn = (key: MetadataKey, target: object): unknown => stored.get(target)?.get(key)
  reflect.getOwnMetadata = getOwn
  reflect.getMetadata = (key, target) => {
    for (
      let at: object | null = target;
      at !== null;
      at = Object.getPrototypeOf(at) as object | null
    )
      if (stored.get(at)?.has(key) === true) return getOwn(key, at)
    return undefined
  }
  reflect.defineMetadata = (key, value, target) => {
    const entries = stored.get(target) ?? new Map<MetadataKey, unknown>()
    entries.set(key, value)
    stored.set(target, entries)
  }
}

install(Reflect as ReflectMetadata)
