// SPDX-License-Identifier: Apache-2.0
// What the status of a Gateway says of the waypoint that is made of it, and when there is nothing to write.

import t from 'tap'
import { readGateway } from '../../controller/gateway-api/gateway.ts'
import { type GatewayStanding, gatewayStatus } from '../../controller/gateway-api/gateway-status.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { ORIGIN } from '../core/objects.ts'
import { HBONE_LISTENER, waypoint } from './gateway-objects.ts'

const NOW = new Date('2026-01-02T03:04:05.678Z')

type Choices = Parameters<typeof waypoint>[1]

function standing(choices: Choices = {}, others: Partial<GatewayStanding> = {}): GatewayStanding {
  const gateway = readGateway(waypoint('w', choices), ORIGIN).facts
  if (gateway === undefined) throw new Error('it is read')
  return {
    gateway,
    waypoint: { namespace: 'shop', name: 'w', traffic: 'service', allowed: { kind: 'same' } },
    pods: { ready: 1, all: 2 },
    addresses: ['10.96.0.9' as IpAddress],
    ...others,
  }
}

/** The conditions, each in words. */
function conditions(...args: [GatewayStanding, Parameters<typeof gatewayStatus>[1]?]): string[] {
  const [of, flaw] = args
  const status = gatewayStatus(of, flaw, NOW) as { conditions: Record<string, string>[] }
  return status.conditions.map((each) => `${each['type']} ${each['status']} ${each['reason']}`)
}

void t.test('a Gateway says how far its waypoint is', async (t) => {
  const accepted = 'Accepted True Accepted'
  const resolved = 'ResolvedRefs True ResolvedRefs'
  t.strictSame(conditions(standing()), [accepted, 'Programmed True Programmed', resolved])
  const early = standing({}, { addresses: [] })
  t.strictSame(conditions(early)[1], 'Programmed False AddressNotAssigned')
  const pending = standing({}, { pods: { ready: 0, all: 1 } })
  t.strictSame(conditions(pending)[1], 'Programmed False Pending')
  const flaw = { object: 'Service shop/w', field: 'spec', reason: 'is refused' }
  t.strictSame(conditions(standing(), flaw)[1], 'Programmed False Invalid')
  t.match(gatewayStatus(standing(), flaw, NOW), {
    conditions: [{}, { message: 'cannot be made: Service shop/w spec is refused' }, {}],
  })
  const parametersRef = { group: 'x.io', kind: 'Secret', name: 'p' }
  const odd = standing({ spec: { infrastructure: { parametersRef } } })
  t.strictSame(conditions(odd), [
    'Accepted False InvalidParameters',
    'Programmed False Invalid',
    'ResolvedRefs False InvalidParameters',
  ])
})

void t.test('addresses that are asked for are its own, or it says that it has not them', (t) => {
  const asking = (...addresses: readonly unknown[]) => conditions(standing({ spec: { addresses } }))
  const programmed = ['Accepted True Accepted', 'Programmed True Programmed']
  t.strictSame(asking({ type: 'IPAddress' }).slice(0, 2), programmed, 'any')
  t.strictSame(asking({ value: '' }).slice(0, 2), programmed)
  t.strictSame(asking({ type: 'IPAddress', value: '10.96.0.9' }).slice(0, 2), programmed, 'its own')
  const lacking = ['Accepted True Accepted', 'Programmed False AddressNotUsable']
  t.strictSame(asking({ value: '10.96.0.9' }, { value: '192.0.2.1' }).slice(0, 2), lacking)
  const refused = ['Accepted False UnsupportedAddress', 'Programmed False Invalid']
  t.strictSame(asking({ type: 'Hostname', value: 'shop.example' }).slice(0, 2), refused)
  for (const odd of [{ type: 7 }, 'x', { value: 7 }]) t.strictSame(asking(odd).slice(0, 2), refused)
  const none = standing({ spec: { addresses: 'x' } })
  t.strictSame(conditions(none).slice(0, 2), refused)
  t.match(
    gatewayStatus(standing({ spec: { addresses: [{ type: 'Hostname' }] } }), undefined, NOW),
    {
      conditions: [{ message: /^spec\.addresses\[0\] is of type "Hostname", and a waypoint has/ }],
      addresses: [{ type: 'IPAddress', value: '10.96.0.9' }],
    },
  )
  t.end()
})

void t.test('a listener that no waypoint has is told of by itself', async (t) => {
  const listeners = [{ name: 'web', port: 80, protocol: 'HTTP' }, HBONE_LISTENER]
  const none = standing({ spec: { listeners } })
  const wrong = { ...none, waypoint: { ...none.waypoint, allowed: undefined } }
  t.strictSame(conditions(wrong).slice(0, 2), [
    'Accepted False ListenersNotValid',
    'Programmed False Invalid',
  ])
  t.match(gatewayStatus(wrong, undefined, NOW), {
    listeners: [
      { name: 'web', conditions: [{ status: 'False', reason: 'UnsupportedProtocol' }] },
      { name: 'mesh', conditions: [{ status: 'False', reason: 'TooManyListeners' }] },
    ],
  })
})

/** What is said of each listener of a Gateway that has these. */
function listenersOf(...listeners: readonly object[]): readonly ListenerStatus[] {
  return (
    gatewayStatus(standing({ spec: { listeners } }), undefined, NOW) as {
      listeners: readonly ListenerStatus[]
    }
  ).listeners
}

interface ListenerStatus {
  readonly supportedKinds: readonly { readonly group: string; readonly kind: string }[]
  readonly conditions: readonly {
    readonly type: string
    readonly status: string
    readonly reason: string
  }[]
}

/** Kinds of routes in words, and what the condition of that type says. */
function told(of: ListenerStatus | undefined, type: string): string {
  const kinds = of?.supportedKinds.map(({ group, kind }) => {
    return group === 'gateway.networking.k8s.io' ? kind : `${group}/${kind}`
  })
  const said = of?.conditions.find((condition) => condition.type === type)
  return `${kinds?.join(' ')} | ${said?.status} ${said?.reason}`
}

void t.test('a listener names the kinds of routes that a waypoint serves by it', (t) => {
  const kinds = (listener: object, ...names: readonly string[]): string => {
    const asked = names.map((kind) => ({ kind }))
    const [status] = listenersOf({
      ...listener,
      ...(asked.length > 0 && { allowedRoutes: { kinds: asked } }),
    })
    return told(status, 'ResolvedRefs')
  }
  const all = 'HTTPRoute GRPCRoute TCPRoute TLSRoute'
  t.equal(kinds(HBONE_LISTENER), `${all} | True ResolvedRefs`)
  t.equal(kinds(HBONE_LISTENER, 'TLSRoute', 'TCPRoute'), 'TCPRoute TLSRoute | True ResolvedRefs')
  t.equal(
    kinds(HBONE_LISTENER, 'UDPRoute', 'GRPCRoute'),
    'GRPCRoute | False InvalidRouteKinds',
    'of those that are asked for, it serves but one',
  )
  const plain = { name: 'web', port: 80, protocol: 'HTTP' }
  t.equal(kinds(plain), ' | True ResolvedRefs', 'it does not speak that')
  t.equal(kinds(plain, 'HTTPRoute'), ' | False InvalidRouteKinds')
  t.equal(kinds({ ...HBONE_LISTENER, port: 15_009 }), ' | True ResolvedRefs')
  t.end()
})

void t.test('listeners that cannot be told apart conflict', (t) => {
  const conflicts = (...listeners: readonly object[]): readonly string[] =>
    listenersOf(...listeners).map((status) => told(status, 'Conflicted').split(' | ')[1] ?? '')
  const web = { name: 'web', port: 15_008, protocol: 'HTTP' }
  const free = 'False NoConflicts'
  t.strictSame(conflicts(HBONE_LISTENER), [free])
  t.strictSame(conflicts(HBONE_LISTENER, { ...web, port: 80 }), [free, free])
  t.strictSame(conflicts(HBONE_LISTENER, web), ['True ProtocolConflict', 'True ProtocolConflict'])
  const twice = 'True HostnameConflict'
  t.strictSame(conflicts(HBONE_LISTENER, { ...HBONE_LISTENER, name: 'again' }), [twice, twice])
  const [one, other] = ['a.example', 'b.example'].map((hostname) => ({ ...web, hostname }))
  t.strictSame(conflicts({ ...one }, { ...other }), [free, free])
  t.end()
})

void t.test('what says what it should is not written again', async (t) => {
  const status = gatewayStatus(standing(), undefined, NOW)
  const theirs = { type: 'Theirs', status: 'True' }
  const { conditions: ours } = status as { conditions: object[] }
  const written = { ...status, conditions: [theirs, ...ours] }
  t.equal(gatewayStatus(standing({ status: written }), undefined, NOW), undefined)
  const next = gatewayStatus(standing({ status: written, generation: 2 }), undefined, NOW)
  t.match(next, { conditions: [theirs, { observedGeneration: 2 }, {}, {}], listeners: [{}] })
  const moved = standing({ status: written }, { addresses: ['10.96.0.10' as IpAddress] })
  t.strictSame(gatewayStatus(moved, undefined, NOW), {
    addresses: [{ type: 'IPAddress', value: '10.96.0.10' }],
  })
})
