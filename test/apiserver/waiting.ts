// SPDX-License-Identifier: Apache-2.0
// What the stories wait for: output of a command, objects as a watch tells them. Each wait ends with a word of what was
// seen instead.

import type { ListOptions } from '../../lab/kubernetes/objects/cluster-api.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import { until, within } from '../support/until.ts'
import type { ApiUnderTest } from './api-under-test.ts'

/** Collects a stream and resolves when its text satisfies a condition; rejects at the deadline. */
export function untilOutput(
  stream: NodeJS.ReadableStream,
  isEnough: (text: string) => boolean,
): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let text = ''
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8')
    if (isEnough(text)) resolve(text)
  })
  return within(promise, () => `output; so far: ${text}`)
}

/** Resolves when an object of a resource satisfies a condition; rejects at the deadline. */
export async function untilObject(
  api: ApiUnderTest,
  resource: string,
  isIt: (object: StoredObject) => boolean,
): Promise<StoredObject> {
  const { promise, resolve } = Promise.withResolvers<StoredObject>()
  let last: StoredObject | undefined
  const stop = api.watch(resource, ({ type, object }) => {
    last = object
    if (type !== 'DELETED' && isIt(object)) resolve(object)
  })
  try {
    return await within(
      promise,
      () =>
        `${resource}: ${isIt}; the last was ${last === undefined ? 'none' : JSON.stringify(last)}`,
    )
  } finally {
    stop()
  }
}

/** Resolves when the names of a resource's objects are exactly these; rejects at the deadline, saying what is there. */
export async function untilNames(
  api: ApiUnderTest,
  resource: string,
  options: ListOptions,
  wanted: readonly string[],
): Promise<void> {
  let names: readonly string[] = []
  await until(
    async () => {
      const found = await api.list(resource, options)
      if (!found.ok) throw new Error(found.error.message)
      names = found.value.map(({ metadata }) => metadata.name).toSorted()
      return JSON.stringify(names) === JSON.stringify(wanted.toSorted())
    },
    () => `${resource} ${wanted.join(', ')}; there are ${names.join(', ')}`,
  )
}
