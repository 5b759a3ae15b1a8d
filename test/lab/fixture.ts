// SPDX-License-Identifier: Apache-2.0
// A lab for the tests of one file: made once, taken down at the end even when tests fail.

import type { Test } from 'tap'
import { createLab, type Lab, type LabOptions, takeDown } from '../../lab/cluster/index.ts'

let counter = 0

/** A lab name no other test or user has. */
export function uniqueLabName(): string {
  counter += 1
  return `t${process.pid}-${counter}`
}

/** Makes a lab (without the mesh unless asked for) that goes when the test `t` ends. */
export async function testLab(t: Test, options: LabOptions = {}): Promise<Lab> {
  const name = options.name ?? uniqueLabName()
  t.teardown(async () => {
    await takeDown(name)
  })
  return await createLab({ mesh: false, ...options, name })
}

/** A pod manifest: one container `main` with the host's image. */
export function podManifest(
  name: string,
  command: readonly string[],
  extra: {
    readonly node?: string
    readonly labels?: object
    readonly annotations?: object
    readonly pod?: object
    readonly container?: object
  } = {},
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: extra.labels ?? {}, annotations: extra.annotations ?? {} },
    spec: {
      terminationGracePeriodSeconds: 1,
      ...(extra.node === undefined ? {} : { nodeName: extra.node }),
      containers: [{ name: 'main', image: 'host', command, ...extra.container }],
      ...extra.pod,
    },
  })
}

/** A server that answers each request with who asked and who it is. */
export const ECHO_SERVER = [
  'node',
  '-e',
  `require('node:http').createServer((request, response) => {
    response.end(request.socket.remoteAddress.replace('::ffff:', '') + ' ' + require('node:os').hostname())
  }).listen(8080, '::')`,
]

/** A pod that does nothing, to run commands in. */
export const IDLE = ['sleep', '1000']
