// SPDX-License-Identifier: Apache-2.0
// Derived state that keeps itself up to date.
//
// A source is told what it holds. A derived collection says, for one input, what follows from it and from whatever else
// it fetches; what it fetched is remembered, and when exactly that changes, that one input is computed again. Nobody
// keeps lists of what depends on what. All changes of a batch are committed as one: each input is computed at most once,
// after everything it reads; results are compared by content once, and what did not change is not announced.
//
// This example is run by test/collections/example.test.ts:
//
//     const graph = new Graph({ onFault: ({ error }) => console.error(error) })
//     const pods = graph.source<string, { app: string; address: string }>('pods')
//     const services = graph.source<string, { selector: string }>('services')
//     const podsByApp = pods.index((pod) => [pod.app])
//     const endpoints = graph.derive('endpoints', services, (fetch, service, name) => [
//       [name, { addresses: fetch(podsByApp, service.selector).map((pod) => pod.address) }],
//     ])
//     endpoints.subscribe((changes) => {
//       for (const { key, current } of changes) console.log(key, current?.addresses.join(' '))
//     })
//     graph.batch(() => {
//       services.set('web', { selector: 'nginx' })
//       pods.set('nginx-1', { app: 'nginx', address: '10.0.0.1' })
//       services.complete()
//       pods.complete()
//     }) // prints: web 10.0.0.1
//     pods.set('redis-1', { app: 'redis', address: '10.0.0.2' }) // prints nothing: no service reads that app
//     pods.set('nginx-2', { app: 'nginx', address: '10.0.0.3' }) // prints: web 10.0.0.1 10.0.0.3
//
// Two rules. Transformations are pure: input and fetches decide everything. And they fetch only from collections that
// were made before theirs (the order of making is the order of computing).

export { isEqual } from './equal.ts'
export { Graph } from './graph.ts'
export type { Change, Collection, Fetch, Index, Outputs, Source } from './types.ts'
