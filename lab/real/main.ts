// SPDX-License-Identifier: Apache-2.0
// `npm run cluster`: a real Kubernetes of two nodes on this machine, up until it is taken down.

import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { FAMILIES } from './addresses.ts'
import { takeClusterDown } from './down.ts'
import { makeImages } from './images.ts'
import { loadImages } from './load-images.ts'
import { type ClusterKind, KUBECONFIG, NETWORKS, NODES } from './layout.ts'
import { inNode } from './node-command.ts'
import { ensurePrograms, KUBERNETES_VERSION } from './programs.ts'
import { bringClusterUp } from './up.ts'

const USAGE = `usage: npm run cluster [-- up [OPTIONS] | down | build [OPTIONS] | load | kubeconfig | enter NODE [COMMAND...]]

A real Kubernetes of two nodes on this machine: kube-apiserver, controllers, scheduler, etcd, and on each node kubelet,
containerd, runc, kube-proxy and CNI plugins, in namespaces and cgroups of their own.

  up          bring it up (the default) and leave it up
  down        take everything of it away
  build       only make the programs that it needs; they are kept
  load        make the images anew and give them to the nodes
  kubeconfig  print the path of its administrator's kubeconfig
  enter       run a command (a shell) on a node

  --kubernetes VERSION  of Kubernetes, ${KUBERNETES_VERSION} unless given
  --network NAME        of pods: bridge (Kubernetes' own plugins, unless given) or kube-router (which enforces
                        NetworkPolicies, too)
  --addresses FAMILIES  of nodes, pods and Services: ipv4 (unless given), ipv6, or dual`

const VERSION = /^v1\.\d+\.\d+$/

const report = (line: string): void => console.log(line)
const USAGE_CODE = 2

async function main(args: readonly string[]): Promise<number> {
  const [verb = 'up', ...rest] = args
  switch (verb) {
    case 'up':
      await bringClusterUp(kindIn(rest), report)
      report(`\nThe cluster is up:\n\n  export KUBECONFIG=${KUBECONFIG}\n  npm run cluster -- down`)
      return 0
    case 'down':
      await takeClusterDown()
      report('nothing of the cluster is left')
      return 0
    case 'build':
      await ensurePrograms(kindIn(rest), report)
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

/** Throws AmbitError for a choice that there is not, TypeError for an option. */
function kindIn(args: readonly string[]): ClusterKind {
  const options = {
    kubernetes: { type: 'string', default: KUBERNETES_VERSION },
    network: { type: 'string', default: NETWORKS[0] },
    addresses: { type: 'string', default: FAMILIES[0] },
  } as const
  const { kubernetes, ...asked } = parseArgs({ args: [...args], options }).values
  if (!VERSION.test(kubernetes))
    throw new AmbitError('AMB_CLUSTER', `--kubernetes=${kubernetes} is no version vX.Y.Z`)
  const network = oneOf('network', NETWORKS, asked.network)
  const families = oneOf('addresses', FAMILIES, asked.addresses)
  if (network === 'kube-router' && families !== 'ipv4')
    throw new AmbitError(
      'AMB_CLUSTER',
      '--network=kube-router is there with --addresses=ipv4 alone',
    )
  return { kubernetes, network, families }
}

function oneOf<T extends string>(option: string, choices: readonly T[], asked: string): T {
  const choice = choices.find((each) => each === asked)
  if (choice !== undefined) return choice
  throw new AmbitError('AMB_CLUSTER', `--${option}=${asked} is none of ${choices.join(', ')}`)
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
