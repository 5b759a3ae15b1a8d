// SPDX-License-Identifier: Apache-2.0
// Flags: the command line wins over the environment, which wins over the default; what is wrong is named.

import { CommanderError } from 'commander'
import t from 'tap'
import {
  flagCommand,
  type FlagTable,
  hostPort,
  logLevel,
  onOff,
  optionalText,
  text,
  words,
} from '../../mesh/program/flags.ts'
import type { HostPort } from '../../mesh/model/host-port.ts'

interface Sample {
  readonly name: string
  readonly file?: string
  readonly address: HostPort
  readonly dirs: readonly string[]
  readonly loud: boolean
  readonly logLevel: string
}

async function parse(...argv: readonly string[]): Promise<Sample> {
  // A table of its own for each: an option remembers nothing, but a test that proves it costs nothing.
  const flags: FlagTable<Sample> = {
    name: text('--name <name>', 'who', { env: 'SAMPLE_NAME' }),
    file: optionalText('--file <file>', 'what'),
    address: hostPort('--address', 'where', { env: 'SAMPLE_ADDRESS', fallback: '[::]:1' }),
    dirs: words('--dir <dir...>', 'which', { env: 'SAMPLE_DIRS', fallback: ['/'] }),
    loud: onOff('--loud', 'how', { env: 'SAMPLE_LOUD' }),
    logLevel: logLevel(),
  }
  const { promise, resolve } = Promise.withResolvers<Sample>()
  await flagCommand<Sample>('sample', 'A sample.', flags, (config) => {
    resolve(config)
    return Promise.resolve()
  })
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
    .parseAsync(argv, { from: 'user' })
  return promise
}

async function withEnvironment<T>(
  variables: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  Object.assign(process.env, variables)
  try {
    return await work()
  } finally {
    for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name)
  }
}

void t.test('what is not given has its default, and what has none is absent', async (t) => {
  t.same(await parse('--name', 'n'), {
    name: 'n',
    address: { host: '::', port: 1 },
    dirs: ['/'],
    loud: false,
    logLevel: 'info',
  })
})

void t.test('LOG_LEVEL=error in the environment does not beat --log-level debug', async (t) => {
  await withEnvironment({ LOG_LEVEL: 'error', SAMPLE_NAME: 'env' }, async () => {
    t.match(await parse('--log-level', 'debug'), { name: 'env', logLevel: 'debug' })
    t.match(await parse(), { logLevel: 'error' })
  })
})

void t.test('the environment goes through the same readers as the command line', async (t) => {
  const env = { SAMPLE_NAME: 'n', SAMPLE_ADDRESS: 'localhost:80', SAMPLE_DIRS: '/a, /b' }
  await withEnvironment(env, async () => {
    t.match(await parse(), { address: { host: 'localhost', port: 80 }, dirs: ['/a', '/b'] })
  })
  await withEnvironment({ SAMPLE_NAME: 'n', SAMPLE_ADDRESS: '::1:80' }, async () => {
    await t.rejects(parse(), { message: /SAMPLE_ADDRESS.*host:port/ })
  })
})

void t.test('a missing name, a stray word and a bad address are refused by name', async (t) => {
  for (const [argv, reason] of [
    [[], /--name/],
    [['--name', 'n', 'stray'], /too many arguments/],
    [['--name', 'n', '--address', 'here'], /--address.*host:port/],
    [['--name', 'n', '--log-level', 'loud'], /--log-level.*Allowed choices/],
  ] as const) {
    const refusal = await parse(...argv).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    t.ok(refusal instanceof CommanderError, argv.join(' '))
    t.match(refusal instanceof Error ? refusal.message : '', reason)
  }
})
