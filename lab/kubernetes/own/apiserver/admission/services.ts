// SPDX-License-Identifier: Apache-2.0
// Services: families, cluster IPs and node ports given by the server, and what may not change later.

import {
  type FieldError,
  duplicateValue,
  invalidValue,
  required,
  unsupportedValue,
} from '../../../objects/refusals.ts'
import { type ClusterIpPools, type IpFamily, familyOf } from '../cluster-ip.ts'
import {
  type Draft,
  at,
  ensureRecord,
  integer,
  record,
  records,
  setDefault,
  text,
  texts,
} from '../../../objects/json.ts'
import { labelErrors } from '../names.ts'
import type { StoredObject } from '../../../objects/stored-object.ts'
import type { Strategy } from './strategy.ts'

const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName']
const POLICIES = ['SingleStack', 'PreferDualStack', 'RequireDualStack']
const FAMILIES = ['IPv4', 'IPv6']
const NONE = 'None'
const MAX_PORT = 65_535

const isFamily = (value: string): value is IpFamily => FAMILIES.includes(value)
const other = (family: IpFamily): IpFamily => (family === 'IPv4' ? 'IPv6' : 'IPv4')

function setDefaults(draft: Draft): void {
  const spec = ensureRecord(draft, 'spec')
  setDefault(spec, 'type', 'ClusterIP')
  setDefault(spec, 'sessionAffinity', 'None')
  if (spec.type === 'ExternalName') return
  setDefault(spec, 'internalTrafficPolicy', 'Cluster')
  if (spec.type !== 'ClusterIP') setDefault(spec, 'externalTrafficPolicy', 'Cluster')
  for (const port of records(spec.ports)) {
    setDefault(port, 'protocol', 'TCP')
    setDefault(port, 'targetPort', port.port)
  }
  const addresses = texts(spec.clusterIPs)
  if (text(spec.clusterIP) === undefined && addresses[0] !== undefined)
    spec.clusterIP = addresses[0]
  const firstFamily = familyOf(text(spec.clusterIP) ?? '') ?? 'IPv4'
  const given = texts(spec.ipFamilies).filter(isFamily)
  setDefault(
    spec,
    'ipFamilyPolicy',
    given.length > 1 || addresses.length > 1 ? 'PreferDualStack' : 'SingleStack',
  )
  const first = given[0] ?? firstFamily
  spec.ipFamilies =
    spec.ipFamilyPolicy === 'SingleStack'
      ? texts(spec.ipFamilies).length === 0
        ? [first]
        : spec.ipFamilies
      : [first, given[1] ?? other(first)]
}

function portErrors(ports: readonly Draft[]): readonly FieldError[] {
  const names = new Set<string>()
  const numbers = new Set<string>()
  return ports.flatMap((port, index) => {
    const path = `spec.ports[${index}]`
    const errors: FieldError[] = []
    const number = integer(port.port)
    if (number === undefined) errors.push(required(`${path}.port`))
    else if (number < 1 || number > MAX_PORT)
      errors.push(invalidValue(`${path}.port`, number, 'must be between 1 and 65535, inclusive'))
    const name = text(port.name) ?? ''
    if (name === '' && ports.length > 1) errors.push(required(`${path}.name`))
    if (name !== '' && names.has(name)) errors.push(duplicateValue(`${path}.name`, name))
    names.add(name)
    const key = `${String(port.protocol)}/${String(port.port)}`
    if (number !== undefined && numbers.has(key)) errors.push(duplicateValue(path, key))
    numbers.add(key)
    return errors
  })
}

function validate(draft: Draft, stored: StoredObject | undefined): readonly FieldError[] {
  const spec = record(draft.spec) ?? {}
  const errors: FieldError[] = [...labelErrors(spec.selector, 'spec.selector')]
  if (!TYPES.includes(String(spec.type)))
    errors.push(unsupportedValue('spec.type', spec.type, TYPES))
  if (spec.type === 'ExternalName') {
    if ((text(spec.externalName) ?? '') === '') errors.push(required('spec.externalName'))
    return errors
  }
  const ports = records(spec.ports)
  const isHeadless = spec.clusterIP === NONE
  if (ports.length === 0 && !isHeadless) errors.push(required('spec.ports'))
  errors.push(...portErrors(ports))
  if (!POLICIES.includes(String(spec.ipFamilyPolicy)))
    errors.push(unsupportedValue('spec.ipFamilyPolicy', spec.ipFamilyPolicy, POLICIES))
  for (const [index, family] of texts(spec.ipFamilies).entries())
    if (!isFamily(family))
      errors.push(unsupportedValue(`spec.ipFamilies[${index}]`, family, FAMILIES))
  const clusterIp = text(spec.clusterIP)
  if (
    clusterIp !== undefined &&
    clusterIp !== '' &&
    !isHeadless &&
    familyOf(clusterIp) === undefined
  )
    errors.push(invalidValue('spec.clusterIPs[0]', clusterIp, 'must be a valid IP address'))
  const storedIp = text(at(stored, 'spec', 'clusterIP'))
  if (storedIp !== undefined && storedIp !== clusterIp && stored?.spec?.type !== 'ExternalName')
    errors.push(invalidValue('spec.clusterIPs[0]', [clusterIp ?? ''], 'may not change once set'))
  return errors
}

/** A writer that leaves addresses out keeps those that are there. */
function prepareUpdate(draft: Draft, stored: StoredObject): void {
  const spec = ensureRecord(draft, 'spec')
  if (spec.type === 'ExternalName' || stored.spec?.type === 'ExternalName') return
  if ((text(spec.clusterIP) ?? '') === '') spec.clusterIP = stored.spec?.clusterIP
  setDefault(spec, 'clusterIPs', stored.spec?.clusterIPs)
  setDefault(spec, 'ipFamilies', stored.spec?.ipFamilies)
  setDefault(spec, 'ipFamilyPolicy', stored.spec?.ipFamilyPolicy)
  const storedPorts = records(at(stored, 'spec', 'ports'))
  for (const port of records(spec.ports)) {
    const before = storedPorts.find(
      (one) => one.port === port.port && one.protocol === port.protocol,
    )
    if (spec.type !== 'ClusterIP' && before?.nodePort !== undefined)
      setDefault(port, 'nodePort', before.nodePort)
  }
}

function claimAddresses(
  spec: Draft,
  stored: StoredObject | undefined,
  pools: ClusterIpPools['pools'],
): readonly FieldError[] {
  const held = new Set(texts(at(stored, 'spec', 'clusterIPs')))
  const wanted =
    texts(spec.clusterIPs).length > 0
      ? texts(spec.clusterIPs)
      : texts([spec.clusterIP]).filter((address) => address !== '')
  const claimed: string[] = []
  const taken: { readonly family: IpFamily; readonly address: string }[] = []
  const giveBack = (error: FieldError): readonly FieldError[] => {
    for (const { family, address } of taken) pools[family].release(address)
    return [error]
  }
  for (const [index, family] of texts(spec.ipFamilies).filter(isFamily).entries()) {
    const address = wanted[index]
    const path = `spec.clusterIPs[${index}]`
    if (address !== undefined && held.has(address)) {
      claimed.push(address)
      continue
    }
    if (address !== undefined) {
      if (!pools[family].has(address))
        return giveBack(
          invalidValue(
            path,
            address,
            `failed to allocate IP ${address}: the provided IP is not in the valid range. The range of valid IPs is ${pools[family].cidr}`,
          ),
        )
      if (!pools[family].take(address))
        return giveBack(
          invalidValue(
            path,
            address,
            `failed to allocate IP ${address}: provided IP is already allocated`,
          ),
        )
    }
    const given = address ?? pools[family].takeAny()
    if (given === undefined)
      return giveBack(
        invalidValue(path, '', `failed to allocate an address: ${family} range is full`),
      )
    taken.push({ family, address: given })
    claimed.push(given)
  }
  for (const address of held) {
    const family = familyOf(address)
    if (family !== undefined && !claimed.includes(address)) pools[family].release(address)
  }
  spec.clusterIP = claimed[0]
  spec.clusterIPs = claimed
  return []
}

function claimNodePorts(
  spec: Draft,
  stored: StoredObject | undefined,
  clusterIps: ClusterIpPools,
): readonly FieldError[] {
  const held = new Set(records(at(stored, 'spec', 'ports')).map((port) => integer(port.nodePort)))
  const errors: FieldError[] = []
  for (const [index, port] of records(spec.ports).entries()) {
    const wanted = integer(port.nodePort)
    if (wanted !== undefined && held.delete(wanted)) continue
    const given = clusterIps.takeNodePort(wanted)
    if (given === undefined)
      errors.push(
        invalidValue(
          `spec.ports[${index}].nodePort`,
          wanted ?? 0,
          'provided port is already allocated or not in the range 30000-32767',
        ),
      )
    else port.nodePort = given
  }
  for (const port of held) if (port !== undefined) clusterIps.releaseNodePort(port)
  return errors
}

export const serviceStrategy: Strategy = {
  setDefaults,
  validate,
  prepareUpdate,
  admitCreate: (draft) => {
    draft.status = { loadBalancer: {} }
    return { ok: true, value: undefined }
  },
  claim: (draft, stored, { clusterIps }) => {
    const spec = ensureRecord(draft, 'spec')
    if (spec.type === 'ExternalName') return []
    if (spec.clusterIP === NONE) {
      spec.clusterIPs = [NONE]
      return []
    }
    const errors = claimAddresses(spec, stored, clusterIps.pools)
    if (errors.length > 0 || spec.type === 'ClusterIP') return errors
    return claimNodePorts(spec, stored, clusterIps)
  },
  afterRemove: (object, { clusterIps }) => {
    for (const address of texts(object.spec?.clusterIPs)) {
      const family = familyOf(address)
      if (family !== undefined) clusterIps.pools[family].release(address)
    }
    for (const port of records(object.spec?.ports)) {
      const nodePort = integer(port.nodePort)
      if (nodePort !== undefined) clusterIps.releaseNodePort(nodePort)
    }
  },
}
