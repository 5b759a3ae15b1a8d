// SPDX-License-Identifier: Apache-2.0
// From the model to the wire form. Equal objects give equal bytes (maps are written in key order), because the
// discovery server tells versions apart by content.

import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  type Address,
  AddressSchema,
  type GatewayAddressSchema,
  type PortSchema,
} from '../proto/gen/workload_pb.js'
import { ipAddressToBytes } from './address.ts'
import { DEFAULT_CAPACITY, WIRE_NUMBERS } from './convert.ts'
import type { GatewayAddress, Service, ServicePort, Workload } from './types.ts'

/** Writes a workload as an address resource; its resource name is the uid. */
export function addressFromWorkload(workload: Workload): Address {
  const { locality } = workload
  const hasLocality = locality.region !== '' || locality.zone !== '' || locality.subzone !== ''
  return create(AddressSchema, {
    type: {
      case: 'workload',
      value: {
        uid: workload.uid,
        name: workload.name,
        namespace: workload.namespace,
        addresses: workload.addresses.map(ipAddressToBytes),
        hostname: workload.hostname,
        network: workload.network,
        tunnelProtocol: WIRE_NUMBERS.tunnelProtocol.indexOf(workload.tunnelProtocol),
        trustDomain: workload.trustDomain,
        serviceAccount: workload.serviceAccount,
        node: workload.node,
        canonicalName: workload.canonicalName,
        canonicalRevision: workload.canonicalRevision,
        workloadType: WIRE_NUMBERS.workloadType.indexOf(workload.workloadType),
        workloadName: workload.workloadName,
        nativeTunnel: workload.nativeTunnel,
        services: Object.fromEntries(
          [...workload.services]
            .sort(([left], [right]) => (left < right ? -1 : 1))
            .map(([key, ports]) => [key, { ports: ports.map(portMessage) }]),
        ),
        authorizationPolicies: [...workload.authorizationPolicies],
        status: WIRE_NUMBERS.status.indexOf(workload.status),
        clusterId: workload.clusterId,
        ...(hasLocality ? { locality } : {}),
        networkMode: WIRE_NUMBERS.foundBy.indexOf(workload.foundBy),
        ...optional('waypoint', workload.waypoint),
        ...optional('networkGateway', workload.networkGateway),
        ...(workload.capacity === DEFAULT_CAPACITY ? {} : { capacity: workload.capacity }),
      },
    },
  })
}

/** Writes a service as an address resource; its resource name is the key. */
export function addressFromService(service: Service): Address {
  const { mode, healthPolicy, routingPreference } = service.loadBalancing
  return create(AddressSchema, {
    type: {
      case: 'service',
      value: {
        name: service.name,
        namespace: service.namespace,
        hostname: service.hostname,
        addresses: service.addresses.map(({ network, address, prefixLength }) => ({
          network,
          address: ipAddressToBytes(address),
          ...(prefixLength === undefined ? {} : { length: prefixLength }),
        })),
        ports: service.ports.map(portMessage),
        subjectAltNames: [...service.subjectAltNames],
        ...optional('waypoint', service.waypoint),
        loadBalancing: {
          routingPreference: routingPreference.map((scope) => WIRE_NUMBERS.scope.indexOf(scope)),
          mode: WIRE_NUMBERS.mode.indexOf(mode),
          healthPolicy: WIRE_NUMBERS.healthPolicy.indexOf(healthPolicy),
        },
        ipFamilies: WIRE_NUMBERS.ipFamilies.indexOf(service.ipFamilies),
        canonical: service.canonical,
      },
    },
  })
}

function portMessage(port: ServicePort): MessageInitShape<typeof PortSchema> {
  return {
    servicePort: port.servicePort,
    targetPort: port.targetPort,
    appProtocol: WIRE_NUMBERS.appProtocol.indexOf(port.appProtocol),
  }
}

function optional<Name extends string>(
  name: Name,
  gateway: GatewayAddress | undefined,
): { [Key in Name]?: MessageInitShape<typeof GatewayAddressSchema> } {
  if (gateway === undefined) return {}
  return { [name]: gatewayMessage(gateway) } as {
    [Key in Name]: MessageInitShape<typeof GatewayAddressSchema>
  }
}

function gatewayMessage(gateway: GatewayAddress): MessageInitShape<typeof GatewayAddressSchema> {
  const { destination, hbonePort } = gateway
  if (destination.kind === 'hostname')
    return {
      hboneMtlsPort: hbonePort,
      destination: {
        case: 'hostname',
        value: { namespace: destination.namespace, hostname: destination.hostname },
      },
    }
  return {
    hboneMtlsPort: hbonePort,
    destination: {
      case: 'address',
      value: { network: destination.network, address: ipAddressToBytes(destination.address) },
    },
  }
}
