// SPDX-License-Identifier: Apache-2.0
// Flags of the long-running programs as tables: a configuration's fields, each with its flag, environment variable, default and
// reader. Every value is checked before anything starts; the command line wins over the environment, which wins over the default.

import { existsSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import { isLoopback, parseIpAddress } from '../model/address.ts'
import { type HostPort, parseHostPort } from '../model/host-port.ts'
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../telemetry/log.ts'

/**
 * All addresses of both families, or of IPv4 where the kernel has no IPv6: nodes and pods of a cluster may have either alone, and by that
 * the kubelet probes.
 */
export const ANY_HOST = existsSync('/proc/net/if_inet6') ? '[::]' : '0.0.0.0'

/** sockaddr_un, unix(7): 108 with the zero that ends it. */
const LONGEST_SOCKET_PATH = 107

/** One flag and what it gives. */
export interface Flag<T> {
  readonly option: Option
  /** From what the command line, the environment or the default gave. */
  readonly read: (given: unknown) => T
}

/** A flag for each field of a configuration. */
export type FlagTable<C> = { readonly [K in keyof C]-?: Flag<C[K]> }

interface Source {
  /** Environment variable that stands for the flag. */
  readonly env?: string
}

interface WithDefault<T> extends Source {
  readonly fallback: T
  /** How --help shows the default, where it is not written as it is read. */
  readonly shown?: string
}

/** A command that reads the flags of a table and runs; commander tells of wrong ones, naming the flag. */
export function flagCommand<C extends object>(
  name: string,
  description: string,
  flags: FlagTable<C>,
  run: (config: C) => Promise<void>,
): Command {
  const command = new Command(name).description(description).allowExcessArguments(false)
  const entries = Object.entries<Flag<unknown>>(flags)
  for (const [, flag] of entries) command.addOption(flag.option)
  return command.action(async (given: Readonly<Record<string, unknown>>) => {
    const config: Record<string, unknown> = {}
    for (const [field, flag] of entries) {
      const value = flag.read(given[flag.option.attributeName()])
      if (value !== undefined) config[field] = value
    }
    // The table has a flag for each field of C, and each reads that field's type: its own type says so.
    await run(config as C)
  })
}

/** Any text; one that must be given when there is no fallback. */
export function text(
  name: string,
  description: string,
  source: Source & { readonly fallback?: string } = {},
): Flag<string> {
  const option = plain(name, description, source)
  if (source.fallback === undefined) option.makeOptionMandatory()
  else option.default(source.fallback)
  return { option, read: (given) => given as string }
}

/** Any text, or nothing. */
export function optionalText(
  name: string,
  description: string,
  source: Source = {},
): Flag<string | undefined> {
  return {
    option: plain(name, description, source),
    read: (given) => given as string | undefined,
  }
}

/** Text in a form of its own; `parse` throws InvalidArgumentError, saying the form it wants. */
export function parsed<T>(
  name: string,
  description: string,
  parse: (text: string) => T,
  { env, fallback, shown }: WithDefault<T>,
): Flag<T> {
  const option = plain(name, description, env === undefined ? {} : { env })
  option.default(fallback, shown).argParser(parse)
  return { option, read: (given) => given as T }
}

/** One of a few words. */
export function choice<T extends string>(
  name: string,
  description: string,
  choices: readonly T[],
  { env, fallback }: WithDefault<T>,
): Flag<T> {
  const option = plain(name, description, env === undefined ? {} : { env })
  option.default(fallback).choices([...choices])
  return { option, read: (given) => given as T }
}

/** On or off. */
export function onOff(name: string, description: string, source: Source): Flag<boolean> {
  return {
    option: plain(name, description, source).default(false),
    read: (given) => given === true,
  }
}

/** Several words, given one by one (`--flag <word...>`) or separated by commas, as the environment must. */
export function words(
  name: string,
  description: string,
  { env, fallback }: WithDefault<readonly string[]>,
): Flag<readonly string[]> {
  const option = plain(name, description, env === undefined ? {} : { env })
  option.default(fallback)
  return {
    option,
    // commander wraps what the environment says into a list of one.
    read: (given) => (given as readonly string[]).flatMap(parseList),
  }
}

/** A Unix socket as gRPC and SPIFFE write it, `unix:///PATH`; or nothing. */
export function unixSocket(
  name: string,
  description: string,
  source: Source = {},
): Flag<string | undefined> {
  const option = plain(`${name} <unix:///path>`, description, source)
  option.argParser(readUnixSocket)
  return { option, read: (given) => given as string | undefined }
}

/** `host:port`, IPv6 addresses in brackets. */
export function hostPort(
  name: string,
  description: string,
  { env, fallback }: { readonly env: string; readonly fallback: string },
): Flag<HostPort> {
  return parsed(`${name} <host:port>`, description, readHostPort, {
    env,
    fallback: readHostPort(fallback),
    shown: fallback,
  })
}

/** As hostPort, for what only the machine itself may reach. */
export function loopbackPort(
  name: string,
  description: string,
  { env, fallback }: { readonly env: string; readonly fallback: string },
): Flag<HostPort> {
  return parsed(`${name} <host:port>`, description, readLoopbackPort, {
    env,
    fallback: readLoopbackPort(fallback),
    shown: fallback,
  })
}

export function logLevel(): Flag<LogLevel> {
  return choice('--log-level <level>', 'verbosity', LOG_LEVELS, {
    env: 'LOG_LEVEL',
    fallback: 'info',
  })
}

export function logFormat(): Flag<LogFormat> {
  return choice('--log-format <format>', 'one JSON object a line, or text', LOG_FORMATS, {
    env: 'LOG_FORMAT',
    fallback: 'json',
  })
}

/** Which API server, as kubectl is told. */
export const KUBE_FLAGS = {
  kubeconfig: optionalText('--kubeconfig <file>', 'kubeconfig; in-cluster when left out', {
    env: 'KUBECONFIG',
  }),
  context: optionalText('--context <name>', "another context than the kubeconfig's current one"),
} as const

/** Which mesh, as every process of it is told. */
export const MESH_FLAGS = {
  trustDomain: parsed('--trust-domain <name>', 'SPIFFE trust domain', parseTrustDomain, {
    env: 'TRUST_DOMAIN',
    fallback: 'cluster.local',
  }),
  clusterId: text('--cluster-id <name>', 'id of this cluster', {
    env: 'CLUSTER_ID',
    fallback: 'Kubernetes',
  }),
  clusterDomain: text('--cluster-domain <name>', 'DNS domain', {
    env: 'CLUSTER_DOMAIN',
    fallback: 'cluster.local',
  }),
  network: text('--network <name>', 'network of the pods, in a mesh of several', {
    env: 'NETWORK',
    fallback: '',
  }),
} as const

function plain(name: string, description: string, { env }: Source): Option {
  const option = new Option(name, description)
  if (env !== undefined) option.env(env)
  return option
}

function readHostPort(text: string): HostPort {
  const address = parseHostPort(text)
  if (address === undefined)
    throw new InvalidArgumentError('It must be host:port, e.g. 0.0.0.0:15012 or [::]:15012.')
  return address
}

function readUnixSocket(text: string): string {
  const path = /^unix:\/\/(\/[^\s?#]+)$/.exec(text)?.[1]
  if (path === undefined || Buffer.byteLength(path) > LONGEST_SOCKET_PATH)
    throw new InvalidArgumentError(
      `It must be unix:///PATH, of a path of at most ${LONGEST_SOCKET_PATH} bytes, e.g. unix:///run/spire/private/admin.sock.`,
    )
  return text
}

function readLoopbackPort(text: string): HostPort {
  const where = readHostPort(text)
  const address = parseIpAddress(where.host)
  if (where.host !== 'localhost' && (address === undefined || !isLoopback(address)))
    throw new InvalidArgumentError('It must be on loopback, e.g. 127.0.0.1:15000 or [::1]:15000.')
  return where
}

/** Items between commas; blanks around them and empty ones are dropped. */
export function parseList(text: string): readonly string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

/** A whole number within bounds, which the refusal names. */
export function wholeNumber(from: number, to?: number): (text: string) => number {
  return (text) => {
    const count = Number(text)
    if (Number.isInteger(count) && count >= from && count <= (to ?? Number.MAX_SAFE_INTEGER))
      return count
    throw new InvalidArgumentError(
      to === undefined
        ? `It must be a whole number, ${from} or more.`
        : `It must be a whole number from ${from} to ${to}.`,
    )
  }
}

/** Seconds as a decimal number, in milliseconds. */
export function parseSecondsAsMs(text: string): number {
  const seconds = Number(text)
  if (!Number.isFinite(seconds) || seconds < 0 || text.trim() === '')
    throw new InvalidArgumentError('It must be a number of seconds, 0 or more.')
  return seconds * 1_000
}

/** Seconds of a duration as Go writes it, in one unit. */
export function parseDurationSeconds(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,6})(s|m|h)$/.exec(text) ?? []
  if (count === undefined)
    throw new InvalidArgumentError('It must be a duration such as 90s, 30m or 24h.')
  return Number(count) * (unit === 'h' ? 3600 : unit === 'm' ? 60 : 1)
}

/** A SPIFFE trust domain (SPIFFE-ID 2.1): lower case letters, digits, dots, dashes, underscores; at most 255. */
function parseTrustDomain(text: string): string {
  // More than dots: no identity of such a domain is ever accepted (mesh/identity/spiffe.ts).
  if (!/^(?!\.+$)[a-z0-9._-]{1,255}$/.test(text))
    throw new InvalidArgumentError('It must be a SPIFFE trust domain, e.g. cluster.local.')
  return text
}

/** Reads several trust domains, comma-separated. */
export function parseTrustDomains(text: string): readonly string[] {
  return parseList(text).map(parseTrustDomain)
}
