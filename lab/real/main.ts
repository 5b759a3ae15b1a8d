// SPDX-License-Identifier: Apache-2.0
// `npm run cluster`: a real Kubernetes of two nodes on this machine, up until it is taken down.

import { spawnSync } from 'node:child_process'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { takeClusterDown } from './down.ts'
import { makeImages } from './images.ts'
import { loadImages } from './load-images.ts'
import { KUBECONFIG, NODES } from './layout.ts'
import { inNode } from './node-command.ts'
import { ensurePrograms } from './programs.ts'

import { bringClusterUp } from './up.ts'

const USAGE = `usage: npm run cluster [-- up | down | build | load | kubeconfig | enter NODE [COMMAND...]]

A real Kubernetes of two nodes on this machine: kube-apiserver, controllers, scheduler, etcd, and on each node kubelet,
containerd, runc, kube-proxy and CNI plugins, in namespaces and cgroups of their own.

  up          bring it up (the default) and leave it up
  down        take everything of it away
  build       only make the programs that it needs; they are kept
  load        make the images anew and give them to the nodes
  kubeconfig  print the path of its administrator's kubeconfig
  enter       run a command (a shell) on a node`

const report = (line: string): void => console.log(line)
const USAGE_CODE = 2

async function main(args: readonly string[]): Promise<number> {
  const [verb = 'up', ...rest] = args
  switch (verb) {
    case 'up':
      await bringClusterUp(report)
      report(`\nThe cluster is up:\n\n  export KUBECONFIG=${KUBECONFIG}\n  npm run cluster -- down`)
      return 0
    case 'down':
      await takeClusterDown()
      report('nothing of the cluster is left')
      return 0
    case 'build':
      await ensurePrograms(report)
      return 0
    case 'load':
      await makeImages(report)
      await loadImages()
      return 0
    case 'kubeconfig':
      report(KUBECONFIG)
      return 0
    case 'enter':
      return enter(rest)
    default:
      console.log(USAGE)
      return verb === '--help' ? 0 : USAGE_CODE
  }
}

function enter([node = NODES[0], ...given]: readonly string[]): number {
  const [program = 'sh', ...argv] = [...inNode(node), ...(given.length === 0 ? ['bash'] : given)]
  return spawnSync(program, argv, { stdio: 'inherit' }).status ?? 1
}

try {
  process.exit(await main(process.argv.slice(2)))
} catch (error) {
  const isCoded = error instanceof AmbitError
  console.error(isCoded ? `${error.code}: ${error.message} (${error.hint})` : errorMessage(error))
  process.exit(1)
}
