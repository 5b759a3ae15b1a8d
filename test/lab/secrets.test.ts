// SPDX-License-Identifier: Apache-2.0
// A lab stands on a machine that others use as well: no local user but root reads a token, a Secret, a kubeconfig or a
// log of it, neither from the host nor from a container of the lab, and yet each pod reads what is its own.

import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from '../../lab/cluster/index.ts'
import { tryCommand } from '../../lab/machine/command.ts'
import { missing } from '../helpers.ts'
import { IDLE, podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')
const LAB_MODULE = new URL('../../lab/cluster/index.ts', import.meta.url).href
const TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token'
const STRANGER = 1000
/** Long enough to be in no other file of the machine. */
const SECRET = `hush-${process.pid}-${'x'.repeat(24)}`

const AS_STRANGER = [
  'setpriv',
  `--reuid=${STRANGER}`,
  `--regid=${STRANGER}`,
  '--clear-groups',
  '--',
]

/** Prints the files below a directory, and the command lines of processes, that hold one of the words on its input. */
const SEARCH = `
words=$(mktemp); trap 'rm -f "$words"' EXIT; cat >"$words"
find "$1" -type f -exec grep -lFf "$words" {} + 2>/dev/null
grep -lFf "$words" /proc/[0-9]*/cmdline 2>/dev/null
true`

await t.test('secrets of a lab', { skip }, async (t) => {
  const lab = await testLab(t, { nodes: 1 })
  await lab.kubectl('create', 'secret', 'generic', 'hidden', `--from-literal=key=${SECRET}`)
  const withSecret = {
    env: [{ name: 'HIDDEN', valueFrom: { secretKeyRef: { name: 'hidden', key: 'key' } } }],
    volumeMounts: [{ name: 'hidden', mountPath: '/hidden' }],
  }
  const volumes = [{ name: 'hidden', secret: { secretName: 'hidden' } }]
  const runsAs = (user: number): object => ({ securityContext: { runAsUser: user } })
  await lab.apply(podManifest('plain', IDLE, { pod: { volumes }, container: withSecret }))
  await lab.apply(podManifest('user', IDLE, { container: runsAs(1234) }))
  await lab.apply(podManifest('stranger', IDLE, { container: runsAs(STRANGER) }))
  await lab.apply(
    podManifest('shared', IDLE, {
      pod: { securityContext: { fsGroup: 4321 } },
      container: runsAs(1234),
    }),
  )
  await lab.apply(
    podManifest('two', IDLE, {
      container: runsAs(1234),
      pod: {
        containers: [
          { name: 'main', image: 'host', command: IDLE, ...runsAs(1234) },
          { name: 'other', image: 'host', command: IDLE, ...runsAs(2345) },
        ],
      },
    }),
  )
  await lab.waitForPods('default')

  await t.test('are read by the containers whose they are, whoever those run as', async (t) => {
    const who: readonly (readonly [string, string, string])[] = [
      ['plain', 'main', '0'],
      ['user', 'main', '1234'],
      ['shared', 'main', '1234'],
      ['two', 'main', '1234'],
      ['two', 'other', '2345'],
    ]
    for (const [pod, container, user] of who) {
      const options = { container }
      const output = await lab.exec(pod, ['sh', '-c', `id -u; cat ${TOKEN}`], options)
      t.match(output.stdout, new RegExp(`^${user}\neyJ`), `${pod}/${container} reads its token`)
    }
    t.equal((await lab.exec('plain', ['cat', '/hidden/key'])).stdout, SECRET)
    t.equal((await lab.exec('plain', ['sh', '-c', 'echo $HIDDEN'])).stdout, `${SECRET}\n`)
  })

  await t.test('have the modes that a kubelet gives them', async (t) => {
    const modeOf = (path: string): string => {
      const { mode, uid, gid } = statSync(path)
      return `${(mode & 0o777).toString(8)} ${uid}:${gid}`
    }
    const token = (pod: string): string =>
      modeOf(join(lab.layout.podsDir, lab.pod(pod).uid, 'volumes', 'kube-api-access', 'token'))
    t.equal(modeOf(lab.layout.runDir), '700 0:0')
    t.equal(modeOf(lab.layout.podsDir), '700 0:0')
    t.equal(modeOf(lab.layout.kubeconfig), '600 0:0')
    t.equal(token('plain'), '600 0:0')
    t.equal(token('user'), '600 1234:0')
    t.equal(token('shared'), '640 1234:4321')
    t.equal(
      token('two'),
      '644 0:0',
      'users of one pod who share a token: the folders keep others out',
    )
  })

  await t.test('are read by no other user of the machine, nor by another pod', async (t) => {
    const tokens = ['plain', 'user', 'shared', 'two'].map((pod) => tokenOf(lab, pod))
    const words = [SECRET, adminToken(lab), ...tokens]
    const { runDir } = lab.layout
    // While a terminal's session is open, its words stand in the process list.
    const session = lab.spawn('plain', ['sh', '-c', 'echo open; cat'])
    t.teardown(() => session.kill())
    const terminal = ['exec', '-ti', 'plain', '--', 'sh', '-c', 'echo open; cat']
    if (session.stdout !== null) await once(session.stdout, 'data')
    const close = await openTerminal(lab, terminal)
    t.teardown(close)
    const input = `${words.join('\n')}\n`
    const search = ['sh', '-c', SEARCH, 'sh', runDir]
    const asRoot = await tryCommand(search, { input })
    t.match(asRoot.stdout, /volumes\/hidden\/key/, 'the search finds what may be read')
    t.notMatch(asRoot.stdout, '/cmdline', 'no command line holds a secret, even for root')
    t.equal((await tryCommand([...AS_STRANGER, ...search], { input })).stdout, '')
    t.equal((await lab.exec('stranger', search, { input })).stdout, '')
    const names = await tryCommand([...AS_STRANGER, 'ls', runDir])
    t.match([names.stdout, names.code], ['', 2], 'not even names')
  })

  await t.test('stay with root when somebody else asks for the lab', async (t) => {
    // Who runs this may keep the repository where others cannot read it: it is loaded before root is given up.
    const script = `const { requireLab } = await import(${JSON.stringify(LAB_MODULE)})
      process.setgroups([]); process.setgid(${STRANGER}); process.setuid(${STRANGER})
      try { requireLab(${JSON.stringify(lab.name)}) } catch (error) { console.log(error.code, error.message) }`
    const output = await tryCommand([process.execPath, '--input-type=module', '-e', script])
    t.equal(output.stdout, `AMB_NOT_ROOT Cannot read lab "${lab.name}": this needs root\n`)
  })
})

function tokenOf(lab: Lab, pod: string): string {
  const directory = join(lab.layout.podsDir, lab.pod(pod).uid, 'volumes', 'kube-api-access')
  return readFileSync(join(directory, 'token'), 'utf8')
}

function adminToken(lab: Lab): string {
  const found = /token: "?([^"\s]+)/.exec(readFileSync(lab.kubeconfig, 'utf8'))
  if (found?.[1] === undefined) throw new Error('the kubeconfig holds no token')
  return found[1]
}

/** Opens kubectl's terminal in a pod; gives what closes it. */
async function openTerminal(lab: Lab, args: readonly string[]): Promise<() => Promise<void>> {
  const kubectl = ['kubectl', '--kubeconfig', lab.kubeconfig, ...args].join(' ')
  const argv = ['--quiet', '--return', '--command', kubectl, '/dev/null']
  const child = spawn('script', argv, { stdio: ['pipe', 'pipe', 'ignore'] })
  await once(child.stdout, 'data')
  return async () => {
    const exited = once(child, 'exit')
    child.kill()
    await exited
  }
}
