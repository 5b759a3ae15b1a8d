// SPDX-License-Identifier: Apache-2.0
// The product's KubeApi as plain calls of the lab's server: its rules, and no connection. For stories on a clock that the test
// moves, in which nothing may wait for a socket. Deadlines mean nothing here, and what no such story calls is not there:
// faulty-api.ts has it all, over HTTP.

import type { Draft } from '../../lab/kubernetes/objects/json.ts'
import type { StoredObject } from '../../lab/kubernetes/objects/stored-object.ts'
import type { Selectors } from '../../mesh/kube/api.ts'
import type {
  KubeApi,
  KubeFailure,
  KubeObject,
  KubeResource,
  ObjectName,
} from '../../mesh/kube/index.ts'
import { type Result, ok } from '../../mesh/result.ts'
import { asClientsSee, idOf, type TestKube } from './kube.ts'

type Answer<T> = Promise<Result<T, KubeFailure>>

/** Gets, lists, creates and updates what is in a server of this process. */
export function localKubeApi(kube: TestKube): KubeApi {
  const { local } = kube
  return {
    access: {
      server: new URL('http://nowhere.invalid'),
      namespace: 'default',
      source: 'test',
      credentials: notHere,
    },
    get: (resource, { namespace, name }: ObjectName) =>
      answer(local.get(idOf(resource), namespace, name)),
    list: <T extends KubeObject, V>(
      resource: KubeResource<T>,
      options: Selectors & { readonly keep?: (object: T) => V } = {},
    ) => {
      const listed = local.list(idOf(resource), options)
      if (!listed.ok) return Promise.resolve(listed)
      // Without `keep` V is T: so says the overload that has none.
      const keep = options.keep ?? ((object: T) => object as unknown as V)
      const items = listed.value.map((each) => keep(asClientsSee<T>(each)))
      return Promise.resolve(ok({ items, resourceVersion: String(kube.revision) }))
    },
    create: (resource, object: KubeObject) =>
      answer(local.create(idOf(resource), object.metadata?.namespace, object as Draft)),
    update: (resource, object: KubeObject) =>
      answer(local.update(idOf(resource), object.metadata?.namespace, object as Draft)),
    patch: notHere,
    delete: notHere,
    raw: notHere,
  }
}

function answer<T extends KubeObject>(outcome: Result<StoredObject, KubeFailure>): Answer<T> {
  return Promise.resolve(outcome.ok ? ok(asClientsSee<T>(outcome.value)) : outcome)
}

function notHere(): Promise<never> {
  return Promise.reject(new Error('Cannot call this without a connection: use FaultyApi'))
}
