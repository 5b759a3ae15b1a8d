// SPDX-License-Identifier: Apache-2.0
// The Go module that Kubernetes' programs are built in.

import t from 'tap'
import { pinnedModule } from '../../lab/real/go-module.ts'

const UPSTREAM = `module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	github.com/docker/docker v20.10.7+incompatible
	k8s.io/api v0.0.0
	k8s.io/utils v0.0.0-20260626114624-be93311217bd
)

require (
	k8s.io/kms v0.0.0 // indirect
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kms => ./staging/src/k8s.io/kms
)
`

void t.test('staging modules are pinned to the release, all else is as upstream has it', (t) => {
  const lines = pinnedModule(UPSTREAM, 'v1.37.2')
    .split('\n')
    .map((line) => line.trim())
  for (const line of [
    'go 1.26.0',
    'godebug default=go1.26',
    'require k8s.io/kubernetes v1.37.2',
    'github.com/docker/docker v20.10.7+incompatible',
    'k8s.io/api v0.37.2',
    'k8s.io/utils v0.0.0-20260626114624-be93311217bd',
    'k8s.io/kms v0.37.2 // indirect',
    'k8s.io/api => k8s.io/api v0.37.2',
    'k8s.io/kms => k8s.io/kms v0.37.2',
  ])
    t.ok(lines.includes(line), line)
  t.notMatch(lines.join('\n'), /v0\.0\.0$|\.\/staging/m)
  t.end()
})
