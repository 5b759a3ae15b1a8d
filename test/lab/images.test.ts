// SPDX-License-Identifier: Apache-2.0
// What a container runs by the image it names: nothing but what it says itself, or a program of the lab that stands for the image.

import t from 'tap'
import { commandLine } from '../../lab/kubelet/environment.ts'
import { findImage } from '../../lab/kubelet/images.ts'
import { refusal } from '../../lab/kubelet/refusal.ts'

const ECHO = 'registry.k8s.io/gateway-api/echo-advanced'

void t.test('an image is found by its name, whatever its tag or digest', (t) => {
  const digest = `sha256:${'0'.repeat(64)}`
  for (const name of ['', ':v1.5.1', `@${digest}`, `:v1.5.1@${digest}`].map((end) => ECHO + end))
    t.match(findImage(name)?.entrypoint, ['node', /lab\/samples\/echo\/server\.ts$/], name)
  for (const name of [undefined, '', 'nginx', 'registry:5000/host', `other/${ECHO}`])
    t.equal(findImage(name), undefined, name ?? 'none')
  t.end()
})

void t.test("a container without a command runs its image's, with its own arguments", (t) => {
  const container = { name: 'echo', image: `${ECHO}:v1.5.1`, args: ['--port=$(PORT)'] }
  t.match(commandLine(container, { PORT: '80' }), ['node', /server\.ts$/, '--port=80'])
  t.strictSame(commandLine({ ...container, command: ['true'] }, { PORT: '80' }), [
    'true',
    '--port=80',
  ])
  t.equal(refusal({ spec: { containers: [container] } }), undefined)
  t.match(refusal({ spec: { containers: [{ name: 'app', image: 'host' }] } }), {
    message: /image "host" has no command of its own/,
  })
  t.end()
})
