// SPDX-License-Identifier: Apache-2.0
// A client that holds more than a request can say, and comes again.

import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { DeltaDiscoveryResponseSchema, NodeSchema } from '../../mesh/proto/gen/discovery_pb.js'
import { ok } from '../../mesh/result.ts'
import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import { Subscription } from '../../mesh/xds/subscription.ts'

const TEXT: ResourceType<string> = {
  typeUrl: 'type.test/text',
  name: (value) => value,
  aliases: () => [],
  encode: (value) => Buffer.from(value),
  decode: (_name, bytes) => ok(Buffer.from(bytes).toString()),
}

const node = create(NodeSchema, {})

const response = (names: readonly string[], removedResources: string[] = []) =>
  create(DeltaDiscoveryResponseSchema, {
    typeUrl: TEXT.typeUrl,
    nonce: 'n',
    resources: names.map((name) => ({
      name,
      version: 'v1',
      resource: { typeUrl: TEXT.typeUrl, value: TEXT.encode(name) },
    })),
    removedResources,
  })

function follow(names: '*' | readonly string[], maxVersionsBytes?: number) {
  const heard: string[] = []
  const subscription = new Subscription(
    TEXT,
    names,
    (resources, removed) =>
      void heard.push(...removed.map((name) => `-${name}`), ...resources.map((name) => `+${name}`)),
    maxVersionsBytes === undefined ? {} : { maxVersionsBytes },
  )
  return { heard, subscription }
}

void t.test('it says nothing of it, is told everything, and finds what is gone', (t) => {
  const { heard, subscription } = follow('*', 40)
  t.strictSame(subscription.openingRequest(node).initialResourceVersions, {})
  subscription.handle(response(['kept', 'gone', 'changed', 'left']))
  t.strictSame(subscription.openingRequest(node).initialResourceVersions, {}, 'it is too much')
  heard.length = 0
  subscription.handle(response(['kept', 'changed', 'new'], ['left']))
  t.strictSame(heard, ['-gone', '-left', '+kept', '+changed', '+new'])
  heard.length = 0
  subscription.handle(response(['changed'], ['kept']))
  t.strictSame(heard, ['-kept', '+changed'], 'from then on by what changes')
  t.strictSame(subscription.held.count, 2)
  t.strictSame(
    subscription.openingRequest(node).initialResourceVersions,
    { changed: 'v1', new: 'v1' },
    'what is little enough is said again',
  )
  heard.length = 0
  subscription.handle(response([]))
  t.strictSame(heard, [], 'and then silence means that it is there')
  t.end()
})

void t.test('who asks for names says what it holds of them, however much', (t) => {
  const { heard, subscription } = follow(['one', 'other'], 1)
  subscription.handle(response(['one', 'other']))
  t.strictSame(Object.keys(subscription.openingRequest(node).initialResourceVersions), [
    'one',
    'other',
  ])
  heard.length = 0
  subscription.handle(response(['one']))
  t.strictSame(heard, ['+one'])
  t.end()
})
