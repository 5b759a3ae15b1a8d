// SPDX-License-Identifier: Apache-2.0
// The next life of an agent: what it takes up again, from files, from /proc, and what it lets go.

import t from 'tap'
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { EPOCH_FILE } from '../../agent/enrolment/ownership.ts'
import { PODS } from '../../mesh/kube/index.ts'
import { AMBIENT, inTime, setUpNode, stateFiles, type NodeSetting } from './node-setting.ts'
import { RecordingCapture } from './recording-capture.ts'

/** An agent that enrolled `web` by CNI and then went away, leaving everything in place. */
async function firstLife(setting: NodeSetting): Promise<string> {
  const { start, label, pod, sandbox, until, annotation } = setting
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const cni = await sandbox(pod('web', { ip: '10.244.1.7' }))
  await enrolment.onAdd(cni, inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  await enrolment.close({ withdraw: false })
  if (setting.capture.enrolled.size !== 1) throw new Error('closing did not leave the pod in place')
  return cni.netnsPath
}

function secondCapture(t: { teardown(handler: () => Promise<void>): void }): RecordingCapture {
  const capture = new RecordingCapture()
  t.teardown(() => capture.close())
  return capture
}

/** A /proc without processes. */
async function emptyProc(
  t: { teardown(handler: () => Promise<void>): void },
  setting: NodeSetting,
): Promise<string> {
  const procRoot = path.join(setting.stateDirectory, '..', 'proc')
  await mkdir(path.join(procRoot, 'sys/kernel/random'), { recursive: true })
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
  await writeFile(path.join(procRoot, 'sys/kernel/random/boot_id'), bootId)
  t.teardown(() => rm(procRoot, { recursive: true, force: true }))
  return procRoot
}

void t.test('pods are enrolled again while the API server is away', async (t) => {
  const setting = await setUpNode(t)
  await firstLife(setting)
  const { port } = setting.stub
  await setting.stub.stop()
  const capture = secondCapture(t)
  const enrolment = await setting.start({ capture })
  t.same(capture.calls, ['+web'], 'before the API answers')
  t.same(
    enrolment.enrolledPods().map(({ name, serviceAccount }) => [name, serviceAccount]),
    [['web', 'web']],
  )
  t.same(capture.swept, [], 'nothing is swept before the API has answered')
  await setting.stub.start(port)
  await enrolment.synced
  t.same(capture.calls, ['+web'], 'and not a second time after')
  t.same([...(capture.swept[0] ?? [])].length, 1)
})

void t.test('a pod that was deleted meanwhile is served until its namespace goes', async (t) => {
  const setting = await setUpNode(t)
  const netnsPath = await firstLife(setting)
  setting.stub.remove(PODS, 'shop/web')
  const capture = secondCapture(t)
  const enrolment = await setting.start({ capture })
  await enrolment.synced
  t.same(capture.calls, ['+web'])
  await rm(netnsPath)
  await setting.until(() => capture.enrolled.size === 0, 'the withdrawal')
  let left: readonly string[] = ['?']
  while (left.length > 0) left = await stateFiles(setting.stateDirectory)
  t.same(await stateFiles(setting.stateDirectory), [])
})

void t.test(
  'a pod that was unlabelled meanwhile is withdrawn and its annotation taken off',
  async (t) => {
    const setting = await setUpNode(t)
    await firstLife(setting)
    setting.label('shop')
    const capture = secondCapture(t)
    const enrolment = await setting.start({ capture })
    await enrolment.synced
    t.same(capture.calls, ['+web', '~web'])
    await setting.until(() => setting.annotation('web') === undefined, 'no annotation')
  },
)

void t.test(
  'a namespace that is gone, or another under the same path, is not believed',
  async (t) => {
    const setting = await setUpNode(t)
    const netnsPath = await firstLife(setting)
    const { port } = setting.stub
    await setting.stub.stop()
    await writeFile(`${netnsPath}.new`, '')
    await rename(`${netnsPath}.new`, netnsPath)
    const capture = secondCapture(t)
    await setting.start({ capture })
    t.same(capture.calls, [])
    t.same(await stateFiles(setting.stateDirectory), [])
    await setting.stub.start(port)
  },
)

void t.test('a namespace of the same inode but another cookie is withdrawn at once', async (t) => {
  const setting = await setUpNode(t)
  await firstLife(setting)
  const { port } = setting.stub
  await setting.stub.stop()
  const capture = secondCapture(t)
  capture.nextCookie = 2000n
  await setting.start({ capture })
  t.same(capture.calls, ['+web', '-web'])
  t.equal(capture.enrolled.size, 0)
  await setting.stub.start(port)
})

void t.test('state files that are damaged, forged or of an earlier boot are dropped', async (t) => {
  const setting = await setUpNode(t)
  await firstLife(setting)
  const directory = setting.stateDirectory
  const [name = ''] = await stateFiles(directory)
  const good = JSON.parse(await readFile(path.join(directory, name), 'utf8')) as object
  const bad: Record<string, string> = {
    'half.json': JSON.stringify(good).slice(0, 60),
    'empty.json': '',
    'other-uid.json': JSON.stringify(good),
    'boot.json': JSON.stringify({ ...good, uid: 'boot', bootId: 'another' }),
    'address.json': JSON.stringify({ ...good, uid: 'address', addresses: ['10.0.0'] }),
    'own.json': JSON.stringify({ ...good, uid: 'own', netnsPath: '/proc/self/ns/net' }),
    'left.json.tmp': 'x',
    'left.json.3.tmp': 'x',
  }
  for (const [file, text] of Object.entries(bad)) await writeFile(path.join(directory, file), text)
  await setting.stub.stop()
  const capture = secondCapture(t)
  await setting.start({ capture })
  t.same(capture.calls, ['+web'])
  t.same(await stateFiles(directory), [name])
  await setting.stub.start()
})

void t.test(
  'what no agent wrote stays where it is, also in a directory named by mistake',
  async (t) => {
    const setting = await setUpNode(t)
    const directory = setting.stateDirectory
    await mkdir(path.join(directory, 'others.json'), { recursive: true })
    await mkdir(path.join(directory, 'etc'))
    await writeFile(path.join(directory, 'etc/passwd'), 'root')
    await writeFile(path.join(directory, 'others.json/file'), '')
    await writeFile(path.join(directory, 'settings.json'), '{"colour":"blue"}')
    await writeFile(path.join(directory, 'README'), '')
    await setting.start()
    t.same((await stateFiles(directory)).toSorted(), [
      'README',
      'etc',
      'others.json',
      'settings.json',
    ])
    t.same(await readdir(path.join(directory, 'others.json')), ['file'])
    t.equal(await readFile(path.join(directory, 'etc/passwd'), 'utf8'), 'root')
  },
)

void t.test('a pod known but not enrolled is found by its file when it is labelled', async (t) => {
  const setting = await setUpNode(t)
  setting.label('shop')
  const first = await setting.start()
  await first.synced
  await first.onAdd(await setting.sandbox(setting.pod('web')), inTime())
  await first.close({ withdraw: false })
  const capture = secondCapture(t)
  const second = await setting.start({ capture })
  await second.synced
  t.same(capture.calls, [])
  setting.label('shop', AMBIENT)
  await setting.until(() => capture.enrolled.size === 1, 'the enrolment')
  t.same([...capture.enrolled.values()][0]?.pod.addresses, ['10.244.1.7'])
})

/** A process of a pod; gives the file that stands for its namespace. */
async function processIn(
  procRoot: string,
  pid: number,
  uid: string,
  started: number,
  netns: string,
): Promise<string> {
  const directory = path.join(procRoot, String(pid))
  await mkdir(path.join(directory, 'ns'), { recursive: true })
  await writeFile(path.join(directory, 'cgroup'), `0::/kubepods/pod${uid}/c\n`)
  const fields = Array.from({ length: 19 }, () => '0').join(' ')
  await writeFile(path.join(directory, 'stat'), `${pid} (a ) b) ${fields} ${started} 0 0\n`)
  const file = path.join(procRoot, netns)
  await writeFile(file, '')
  await symlink(file, path.join(directory, 'ns/net'))
  return file
}

void t.test('a pod older than the agent is found by its processes and its status', async (t) => {
  const setting = await setUpNode(t)
  const { label, pod, capture, start, until, annotation } = setting
  label('shop', AMBIENT)
  const web = pod('web', { ip: '10.244.1.9' })
  const noAddress = pod('pending')
  const procRoot = await emptyProc(t, setting)
  const process = (pid: number, uid: string, started: number, netns: string) =>
    processIn(procRoot, pid, uid, started, netns)
  await process(41, web.metadata?.uid ?? '', 900, 'netns-of-a-child')
  await process(42, web.metadata?.uid ?? '', 100, 'netns-of-the-sandbox')
  await process(43, noAddress.metadata?.uid ?? '', 100, 'netns-of-the-other')
  const enrolment = await start({ procRoot })
  await enrolment.synced
  t.same(capture.calls, ['+web'])
  const late = setting.logged.filter((line) => line.includes('had started before this agent'))
  t.equal(late.length, 1)
  t.match(late[0], '"pods":["shop/web"]', 'and is named')
  const captured = capture.enrolled.get(web.metadata?.uid ?? '')?.pod
  t.match(captured, { addresses: ['10.244.1.9'], netnsPath: path.join(procRoot, '42/ns/net') })
  await until(() => annotation('web') === 'enabled', 'the annotation')
  t.equal(captured?.mustHaveAddress, true, 'capture is to check what was only found')
  // A pod without a process of its own that claims to be the static pod with the other's UID.
  const claim = { 'kubernetes.io/config.hash': web.metadata?.uid ?? '' }
  pod('liar', { ip: '10.244.1.11', annotations: claim })
  pod('pending', { ip: '10.244.1.10' })
  await until(() => capture.calls.includes('+pending'), 'the other, once it has an address')
  t.notOk(capture.calls.includes('+liar'), 'an annotation names no other pod')
})

void t.test('only the DEL of its own sandbox takes out a pod found in /proc', async (t) => {
  const setting = await setUpNode(t)
  const { label, pod, capture, start, sandbox } = setting
  label('shop', AMBIENT)
  const names = ['named', 'unnamed'] as const
  const procRoot = await emptyProc(t, setting)
  const objects = names.map((name, index) => pod(name, { ip: `10.244.1.${index + 1}` }))
  const files = await Promise.all(
    objects.map(({ metadata }, index) =>
      processIn(procRoot, 40 + index, metadata?.uid ?? '', 1, `netns-of-${index}`),
    ),
  )
  const [named, unnamed] = objects
  if (named === undefined || unnamed === undefined) throw new Error('both were just made')
  const enrolment = await start({ procRoot })
  await enrolment.synced
  t.equal(capture.enrolled.size, 2)
  for (const object of objects) {
    const earlier = await sandbox(object)
    await enrolment.onDel(earlier)
    await rm(earlier.netnsPath)
    await enrolment.onDel(earlier)
    await enrolment.onDel({ ...earlier, netnsPath: '' })
  }
  t.equal(capture.enrolled.size, 2, 'sandboxes they had before are none of theirs')
  await enrolment.onDel({ ...(await sandbox(named)), netnsPath: files[0] ?? '' })
  t.same(
    [...capture.enrolled.keys()],
    [unnamed.metadata?.uid],
    'the namespace is that of the sandbox that goes',
  )
  // Runtimes that have taken a namespace away name it no more.
  await rm(path.join(procRoot, '41'), { recursive: true })
  await enrolment.onDel({ ...(await sandbox(unnamed)), netnsPath: '' })
  t.equal(capture.enrolled.size, 0, 'no process of it is there any more')
})

void t.test(
  'the DEL of an earlier sandbox does not end the search for the present one',
  async (t) => {
    const setting = await setUpNode(t)
    const { label, pod, capture, start, sandbox, until } = setting
    label('shop', AMBIENT)
    const web = pod('web')
    const procRoot = await emptyProc(t, setting)
    await processIn(procRoot, 42, web.metadata?.uid ?? '', 1, 'netns')
    const enrolment = await start({ procRoot })
    await enrolment.synced
    await enrolment.onDel(await sandbox(web))
    pod('web', { ip: '10.244.1.9' })
    await until(() => capture.enrolled.size === 1, 'the enrolment')
  },
)

void t.test(
  'a pod that cannot be proved any more stays captured, and is no longer believed',
  async (t) => {
    const setting = await setUpNode(t)
    const { label, pod, until, stateDirectory } = setting
    label('shop', AMBIENT)
    const web = pod('web', { ip: '10.244.1.9' })
    const uid = web.metadata?.uid ?? ''
    // As an earlier agent, which had found it in /proc, left it.
    const first = await setting.start()
    await first.synced
    await first.onAdd(await setting.sandbox(web), inTime())
    await first.close({ withdraw: false })
    const file = path.join(stateDirectory, `${uid}.json`)
    const { containerId: _, ...state } = JSON.parse(await readFile(file, 'utf8')) as {
      containerId: string
    }
    await writeFile(file, JSON.stringify(state))
    const capture = secondCapture(t)
    const second = await setting.start({ capture, procRoot: await emptyProc(t, setting) })
    await second.synced
    await until(() => capture.swept.length > 0, 'the sweep')
    t.same(capture.calls, [])
    t.same([...(capture.swept[0] ?? [])], [uid], 'what is captured of it is not swept')
    t.same(await stateFiles(stateDirectory), [`${uid}.json`])
  },
)

void t.test('state files of agents that knew no epochs are read', async (t) => {
  const setting = await setUpNode(t)
  await firstLife(setting)
  const directory = setting.stateDirectory
  const [name = ''] = await stateFiles(directory)
  const file = path.join(directory, name)
  const { epoch, ...old } = JSON.parse(await readFile(file, 'utf8')) as { epoch: number }
  t.equal(epoch, 1)
  await writeFile(file, JSON.stringify(old))
  await rm(path.join(directory, EPOCH_FILE))
  await setting.stub.stop()
  const capture = secondCapture(t)
  await setting.start({ capture })
  t.same(capture.calls, ['+web'])
  await setting.stub.start()
})

/** What an agent of a later version has left: the same file with these fields besides. */
async function byLaterVersion(setting: NodeSetting, fields: object): Promise<string> {
  await firstLife(setting)
  const [name = ''] = await stateFiles(setting.stateDirectory)
  const file = path.join(setting.stateDirectory, name)
  const written = JSON.parse(await readFile(file, 'utf8')) as object
  await writeFile(file, JSON.stringify({ ...written, ...fields }))
  return name.replace(/\.json$/, '')
}

void t.test('a state file with fields that only a later version knows is read', async (t) => {
  const setting = await setUpNode(t)
  await byLaterVersion(setting, { later: { some: ['field'] } })
  await setting.stub.stop()
  const capture = secondCapture(t)
  await setting.start({ capture })
  t.same(capture.calls, ['+web'])
  await setting.stub.start()
})

void t.test(
  'of a state file of a later format nothing is guessed, and its pod stays captured',
  async (t) => {
    const setting = await setUpNode(t)
    const uid = await byLaterVersion(setting, { version: 2, addresses: 'in another way' })
    const capture = secondCapture(t)
    const second = await setting.start({ capture, procRoot: await emptyProc(t, setting) })
    await second.synced
    await setting.until(() => capture.swept.length > 0, 'the sweep')
    t.same(capture.calls, [], 'it is looked for like any other pod, and not found here')
    t.same([...(capture.swept[0] ?? [])], [uid], 'what is captured of it is not swept')
    t.same(await stateFiles(setting.stateDirectory), [], 'it would only mislead')
  },
)
