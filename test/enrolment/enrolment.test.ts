// SPDX-License-Identifier: Apache-2.0
// Enrolment as a whole, against a recording capture and a small API server.

import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { eligibilityOf } from '../../agent/enrolment/index.ts'
import { EVENTS, PODS, type Event } from '../../mesh/kube/index.ts'
import { AMBIENT, inTime, NONE, setUpNode, stateFiles } from './node-setting.ts'
import { portTaken } from './recording-capture.ts'

void t.test('CNI ADD of a labelled pod is answered when the pod is captured', async (t) => {
  const { start, label, pod, sandbox, capture, told, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const web = pod('web')
  const result = await enrolment.onAdd(await sandbox(web), inTime())
  t.ok(result.ok)
  t.same(capture.calls, ['+web'])
  t.same(told, ['enrolled web as web'])
  const captured = capture.enrolled.get(web.metadata?.uid ?? '')?.pod
  t.match(captured, { namespace: 'shop', name: 'web', addresses: ['10.244.1.7'], failOpen: false })
  await until(() => annotation('web') === 'enabled', 'the annotation')
})

void t.test('CNI ADD asks the API for a pod the informer has not told of', async (t) => {
  const { start, label, stub, sandbox, capture } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const metadata = { namespace: 'shop', name: 'late' }
  const spec = { containers: [{ name: 'app', image: 'app' }], nodeName: 'node-a' }
  stub.unheard(() => stub.put(PODS, { metadata, spec }))
  const late = stub.get(PODS, 'shop/late') ?? {}
  t.ok((await enrolment.onAdd(await sandbox(late), inTime())).ok)
  t.same(capture.calls, ['+late'])
})

void t.test(
  'CNI ADD lets pods outside the mesh through, and without the API if excluded',
  async (t) => {
    const { start, label, pod, sandbox, capture, stub } = await setUpNode(t)
    label('legacy')
    const enrolment = await start()
    await enrolment.synced
    t.ok((await enrolment.onAdd(await sandbox(pod('old', { namespace: 'legacy' })), inTime())).ok)
    const dns = pod('dns', { namespace: 'kube-system' })
    stub.fail('GET', /./, Infinity, 500)
    t.ok((await enrolment.onAdd(await sandbox(dns), inTime())).ok)
    t.same(capture.calls, [])
  },
)

void t.test(
  'CNI ADD fails, and forgets the sandbox, when the pod cannot be captured',
  async (t) => {
    const { start, label, pod, sandbox, capture, stateDirectory } = await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    capture.refusals.set('web', portTaken('web'))
    const web = pod('web')
    const result = await enrolment.onAdd(await sandbox(web), inTime())
    t.notOk(result.ok)
    t.match(result, { error: { code: 'AMB_PORT_TAKEN', message: /shop\/web.*15008 is taken/ } })
    t.same(await stateFiles(stateDirectory), [])
    // The runtime comes back with a new sandbox.
    capture.refusals.clear()
    t.ok((await enrolment.onAdd(await sandbox(web), inTime())).ok)
    t.same(capture.calls, ['!web', '+web'])
  },
)

void t.test('CNI ADD fails when the API server is away and the pod unknown', async (t) => {
  const { start, label, stub, pod, sandbox } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const unknown = { ...pod('web'), metadata: { namespace: 'shop', name: 'other', uid: 'u-1' } }
  await stub.stop()
  const result = await enrolment.onAdd(await sandbox(unknown), AbortSignal.timeout(300))
  t.match(result, {
    ok: false,
    error: { message: /Cannot enrol pod shop\/other: pod .* cannot be read/ },
  })
})

void t.test('CNI ADD refuses a sandbox of a pod that was replaced', async (t) => {
  const { start, label, pod, sandbox, capture } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const replaced = { ...(await sandbox(pod('web'))), uid: '00000000-0000-0000-0000-000000000000' }
  t.match(await enrolment.onAdd(replaced, inTime()), {
    ok: false,
    error: { message: /it was replaced/ },
  })
  t.same(capture.calls, [])
})

void t.test("CNI ADD refuses the node's own namespace", async (t) => {
  const { start, label, pod, sandbox } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  const cni = { ...(await sandbox(pod('web'))), netnsPath: '/proc/self/ns/net' }
  t.match(await enrolment.onAdd(cni, inTime()), { error: { message: /namespace of the node/ } })
})

void t.test(
  'labelling and unlabelling a namespace enrols and withdraws its running pods',
  async (t) => {
    const { start, label, pod, sandbox, capture, told, until, annotation } = await setUpNode(t)
    label('shop')
    const enrolment = await start()
    await enrolment.synced
    for (const name of ['a', 'b']) await enrolment.onAdd(await sandbox(pod(name)), inTime())
    t.same(capture.calls, [])
    label('shop', AMBIENT)
    await until(() => capture.enrolled.size === 2, 'two enrolments')
    await until(() => annotation('a') === 'enabled' && annotation('b') === 'enabled', 'annotations')
    label('shop')
    await until(() => capture.enrolled.size === 0, 'two withdrawals')
    await until(
      () => annotation('a') === undefined && annotation('b') === undefined,
      'no annotations',
    )
    t.same([...told].sort(), [
      'enrolled a as web',
      'enrolled b as web',
      'served a again',
      'served b again',
    ])
    t.equal(capture.left.size, 2, 'and their HBONE goes on')
  },
)

void t.test("a pod's own label beats its namespace's", async (t) => {
  const { start, label, pod, sandbox, capture, until } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  pod('web', { labels: NONE })
  await until(() => capture.enrolled.size === 0, 'the withdrawal')
  label('shop', NONE)
  pod('web', { labels: AMBIENT })
  await until(() => capture.enrolled.size === 1, 'the enrolment')
  t.same(capture.calls, ['+web', '~web', '+web'])
})

void t.test(
  'a label flipped back and forth ends as it was set last, one step at a time',
  async (t) => {
    const { start, label, pod, sandbox, capture, until, annotation } = await setUpNode(t)
    label('shop')
    label('after')
    const enrolment = await start()
    await enrolment.synced
    await enrolment.onAdd(await sandbox(pod('web')), inTime())
    for (let round = 0; round < 25; round += 1) {
      label('shop', AMBIENT)
      // Now and then a step has begun when the next flip comes; how far it got does not matter.
      if (round % 3 === 0) await delay(2)
      label('shop')
    }
    label('shop', AMBIENT)
    // What is seen after everything else on the same watch.
    await enrolment.onAdd(await sandbox(pod('last', { namespace: 'after' })), inTime())
    label('after', AMBIENT)
    await until(() => capture.calls.includes('+last'), 'the end of the flipping')
    await until(() => annotation('web') === 'enabled', 'the annotation')
    t.equal(capture.enrolled.size, 2)
    const calls = capture.calls.filter((call) => call !== '+last')
    // Enrolled and withdrawn strictly in turn: the recording capture throws if they overlap.
    t.same(
      calls,
      calls.map((_, index) => (index % 2 === 0 ? '+web' : '~web')),
    )
    label('shop')
    await until(() => annotation('web') === undefined, 'no annotation')
    await until(() => capture.enrolled.size === 1, 'the withdrawal')
  },
)

void t.test('a pod deleted while it is being enrolled is served while it is there', async (t) => {
  const { start, label, pod, sandbox, capture, stub, until, stateDirectory, told } =
    await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const { promise, resolve } = Promise.withResolvers<void>()
  capture.gate = promise
  const cni = await sandbox(pod('web'))
  const adding = enrolment.onAdd(cni, inTime())
  await until(() => capture.isBusy, 'the enrolment to begin')
  stub.remove(PODS, 'shop/web')
  resolve()
  await adding
  t.equal(capture.enrolled.size, 1)
  await rm(cni.netnsPath)
  await until(() => told.includes('withdrawn web'), 'the withdrawal')
  t.equal(capture.enrolled.size, 0)
  let left: readonly string[] = ['?']
  while (left.length > 0) left = await stateFiles(stateDirectory)
  t.same(left, [])
})

void t.test('deletion drains first and withdraws at CNI DEL', async (t) => {
  const { start, label, pod, sandbox, capture, told, until } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const cni = await sandbox(pod('web'))
  await enrolment.onAdd(cni, inTime())
  pod('web', { deletionTimestamp: '2026-01-01T00:00:00Z' })
  await until(() => told.includes('draining web'), 'draining')
  t.equal(capture.enrolled.size, 1)
  pod('web', { labels: { touched: 'again' } })
  await enrolment.onDel({ ...cni, addresses: [] })
  t.same(told, ['enrolled web as web', 'draining web', 'withdrawn web'])
})

void t.test('a late DEL of an earlier sandbox leaves the present one alone', async (t) => {
  const { start, label, pod, sandbox, capture } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const web = pod('web')
  const first = await sandbox(web, 'first')
  const second = await sandbox(web, 'second')
  await enrolment.onAdd(first, inTime())
  await enrolment.onAdd(second, inTime())
  t.same(capture.calls, ['+web', '-web', '+web'], 'moved to the new sandbox')
  await enrolment.onDel(first)
  t.equal(capture.enrolled.size, 1)
  await enrolment.onDel(second)
  t.equal(capture.enrolled.size, 0)
})

void t.test(
  'a pod that is deleted by force, or says that it has finished, may run yet',
  async (t) => {
    const { start, label, pod, sandbox, capture, stub, told, until } = await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    const forced = await sandbox(pod('forced'))
    const evicted = await sandbox(pod('evicted'))
    for (const cni of [forced, evicted]) await enrolment.onAdd(cni, inTime())
    stub.remove(PODS, 'shop/forced')
    pod('evicted', { phase: 'Failed' })
    await until(
      () => told.includes('draining forced') && told.includes('draining evicted'),
      'both to be on their way out',
    )
    t.equal(capture.enrolled.size, 2, 'and captured all the same')
    await enrolment.onDel({ ...forced, addresses: [] })
    // Of a pod that is older than the agent no CNI tells; its namespace goes with its last process.
    await rm(evicted.netnsPath)
    await until(() => capture.enrolled.size === 0, 'the withdrawals')
    t.ok(told.includes('withdrawn forced') && told.includes('withdrawn evicted'))
  },
)

void t.test('a finished pod is withdrawn with its namespace though its object stays', async (t) => {
  const { start, label, pod, sandbox, capture, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const cni = await sandbox(pod('job'))
  await enrolment.onAdd(cni, inTime())
  await until(() => annotation('job') === 'enabled', 'the annotation')
  await rm(cni.netnsPath)
  pod('job', { phase: 'Succeeded' })
  await until(() => capture.enrolled.size === 0, 'the withdrawal')
  await until(() => annotation('job') === undefined, 'no annotation')
  t.pass()
})

void t.test('a pod whose port is taken is reported and tried again; others go on', async (t) => {
  const { start, label, pod, sandbox, capture, stub, until, annotation, logged } =
    await setUpNode(t)
  label('shop')
  const enrolment = await start()
  await enrolment.synced
  for (const name of ['taken', 'free']) await enrolment.onAdd(await sandbox(pod(name)), inTime())
  capture.refusals.set('taken', portTaken('taken'))
  label('shop', AMBIENT)
  await until(() => annotation('free') === 'enabled', 'the other pod')
  await until(() => capture.calls.filter((call) => call === '!taken').length >= 3, 'retries')
  t.equal(annotation('taken'), undefined)
  const events = stub.requests.filter((request) => request.url.pathname.endsWith('/events'))
  t.equal(events.length, 1, 'one event, however many retries')
  const event = JSON.parse(events[0]?.body ?? '{}') as Event
  t.match(event, {
    type: 'Warning',
    reason: 'EnrolmentFailed',
    message: /port 15008 is taken.*AMB_PORT_TAKEN/,
    involvedObject: { kind: 'Pod', namespace: 'shop', name: 'taken' },
    metadata: { namespace: 'shop' },
  })
  t.equal(event.kind, EVENTS.kind)
  t.ok(logged.some((line) => line.includes('the pod is not served')))
  capture.refusals.clear()
  await until(() => annotation('taken') === 'enabled', 'the retry that succeeds')
})

void t.test('a pod with a kernel of its own stays out, and its owner is told once', async (t) => {
  const { start, label, pod, sandbox, capture, stub, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const vm = pod('vm', { spec: { runtimeClassName: 'kata-qemu' } })
  t.match(await enrolment.onAdd(await sandbox(vm), inTime()), { ok: true }, 'it may start')
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  await until(() => annotation('web') === 'enabled', 'the other pod')
  t.strictSame(capture.calls, ['+web'])
  t.equal(annotation('vm'), undefined)
  const posted = (): readonly Event[] =>
    stub.requests
      .filter((request) => request.url.pathname.endsWith('/events'))
      .map((request) => JSON.parse(request.body) as Event)
  await until(() => posted().length > 0, 'the event')
  pod('vm', { labels: { changed: 'yes' }, spec: { runtimeClassName: 'kata-qemu' } })
  pod('last')
  await enrolment.onAdd(await sandbox(pod('last')), inTime())
  await until(() => annotation('last') === 'enabled', 'a look after the change')
  t.match(posted(), [
    {
      type: 'Warning',
      reason: 'EnrolmentFailed',
      message: /Cannot enrol pod shop\/vm: .*a kernel of their own.*stays outside the mesh/,
      involvedObject: { name: 'vm' },
    },
  ])
  t.equal(posted().length, 1)
})

void t.test('the annotation is written through failures of the API server', async (t) => {
  const { start, label, pod, sandbox, stub, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  stub.fail('PATCH', /pods\/web\/status/, 3, 503)
  stub.fail('PATCH', /pods\/web\/status/, 2, 409, 'Conflict')
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  const patches = stub.requests.filter(({ method }) => method === 'PATCH')
  t.equal(patches.length, 6)
  t.equal(patches[0]?.headers['content-type'], 'application/merge-patch+json')
})

void t.test('an annotation somebody removes is put back', async (t) => {
  const { start, label, pod, sandbox, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  pod('web', { annotations: {} })
  t.equal(annotation('web'), undefined)
  await until(() => annotation('web') === 'enabled', 'the annotation again')
})

const ISTIO = 'ambient.istio.io/redirection'
const OURS = 'ambit.io/redirection'
const writtenBy = (manager: string): object => ({
  managedFields: [
    {
      manager,
      operation: 'Update',
      fieldsType: 'FieldsV1',
      fieldsV1: { 'f:metadata': { 'f:annotations': { [`f:${ISTIO}`]: {} } } },
    },
  ],
})

void t.test("the annotation of another mesh's pods is not touched", async (t) => {
  const { start, label, pod, sandbox, stub, until } = await setUpNode(t)
  const annotations = (name: string) => stub.get(PODS, `shop/${name}`)?.metadata?.annotations
  label('shop', { mesh: 'theirs' })
  const object = pod('theirs', { annotations: { [ISTIO]: 'enabled' } })
  stub.put(PODS, { ...object, metadata: { ...object.metadata, ...writtenBy('istio-cni') } })
  const left = pod('ours', { annotations: { [ISTIO]: 'enabled' } })
  stub.put(PODS, { ...left, metadata: { ...left.metadata, ...writtenBy('ambit-agent') } })
  const enrolment = await start()
  await enrolment.synced
  // Of an agent that was killed before it could: that one is ours.
  await until(() => annotations('ours')?.[ISTIO] === undefined, 'ours to go')
  t.equal(annotations('theirs')?.[ISTIO], 'enabled')
  // Whatever changes of that pod, nothing is written.
  const before = stub.requests.filter(({ method }) => method === 'PATCH').length
  pod('theirs', { labels: { version: '2' } })
  pod('last')
  await enrolment.onAdd(await sandbox(pod('last')), inTime())
  t.equal(stub.requests.filter(({ method }) => method === 'PATCH').length, before)
  t.equal(annotations('theirs')?.[ISTIO], 'enabled')
})

void t.test('where the cluster is shared, pods are annotated by our name alone', async (t) => {
  const { start, label, pod, sandbox, stub, until } = await setUpNode(t)
  const annotations = () => stub.get(PODS, 'shop/web')?.metadata?.annotations
  label('shop', { ...AMBIENT, mesh: 'ours' })
  const enrolment = await start({
    eligibility: eligibilityOf({ podNamespace: 'ambit-system', namespaceSelector: 'mesh=ours' }),
  })
  await enrolment.synced
  t.ok((await enrolment.onAdd(await sandbox(pod('web')), inTime())).ok)
  await until(() => annotations()?.[OURS] === 'enabled', 'the annotation')
  t.equal(annotations()?.[ISTIO], undefined)
  label('shop', AMBIENT)
  await until(() => annotations()?.[OURS] === undefined, 'it is not selected any more')
})

void t.test('who keeps taking the annotation off is left his way', async (t) => {
  const { start, label, pod, sandbox, stub, logged, until } = await setUpNode(t)
  const annotations = () => stub.get(PODS, 'shop/web')?.metadata?.annotations
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  const isGivenUp = (): boolean => logged.some((line) => line.includes('keeps taking'))
  for (let round = 0; !isGivenUp(); round += 1) {
    if (round > 20) throw new Error('it is put back without end')
    await until(() => annotations()?.[ISTIO] === 'enabled', 'the annotation')
    // As an agent does that finds a pod annotated which is none of its own.
    const { [ISTIO]: _, ...others } = annotations() ?? {}
    pod('web', { annotations: others })
    await until(() => annotations()?.[ISTIO] === 'enabled' || isGivenUp(), 'either')
  }
  await until(() => annotations()?.[OURS] === 'enabled', 'ours to say it')
  t.equal(annotations()?.[ISTIO], undefined)
  // What somebody does to ours is still put right, and only that.
  pod('web', { annotations: {} })
  await until(() => annotations()?.[OURS] === 'enabled', 'ours again')
  t.equal(annotations()?.[ISTIO], undefined)
})

void t.test('uninstalling withdraws every pod and takes the annotations off', async (t) => {
  const { start, label, pod, sandbox, capture, until, annotation } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  await until(() => annotation('web') === 'enabled', 'the annotation')
  await enrolment.close({ withdraw: true })
  t.equal(capture.enrolled.size, 0)
  t.equal(annotation('web'), undefined)
})

void t.test('a data plane that refuses a pod leaves it plaintext', async (t) => {
  const { start, label, pod, sandbox, capture } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start({
    server: { serve: () => Promise.reject(new Error('no worker left')) },
  })
  await enrolment.synced
  t.match(await enrolment.onAdd(await sandbox(pod('web')), inTime()), {
    error: { message: /no worker left/ },
  })
  t.equal(capture.enrolled.size, 0)
})

void t.test('CHECK and STATUS tell how things stand', async (t) => {
  const { start, label, pod, sandbox, capture, stub, until } = await setUpNode(t)
  label('shop', AMBIENT)
  stub.fail('GET', /namespaces/, 3, 503)
  const enrolment = await start()
  t.match(enrolment.isReady(), { ok: false, error: /not been listed/ })
  await enrolment.synced
  t.ok(enrolment.isReady().ok)
  const web = await sandbox(pod('web'))
  await enrolment.onAdd(web, inTime())
  t.ok((await enrolment.onCheck(web)).ok)
  label('shop')
  await until(() => capture.enrolled.size === 0, 'the withdrawal')
  capture.refusals.set('web', portTaken('web'))
  label('shop', AMBIENT)
  await until(() => capture.calls.includes('!web'), 'the refusal')
  t.match(await enrolment.onCheck(web), { ok: false, error: { message: /is not enrolled/ } })
})

void t.test('CNI ADD without an address in its result is refused', async (t) => {
  const { start, label, pod, sandbox, capture } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const cni = { ...(await sandbox(pod('web'))), addresses: [] }
  t.match(await enrolment.onAdd(cni, inTime()), { error: { message: /has no address yet/ } })
  t.same(capture.calls, [])
})

void t.test('a CNI ADD given up by the runtime leaves nothing enrolled', async (t) => {
  const { start, label, pod, sandbox, capture, until } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  const { promise, resolve } = Promise.withResolvers<void>()
  capture.gate = promise
  const deadline = new AbortController()
  const adding = enrolment.onAdd(await sandbox(pod('web')), deadline.signal)
  await until(() => capture.isBusy, 'the enrolment to begin')
  deadline.abort()
  resolve()
  t.match(await adding, { ok: false, error: { message: /was given up/ } })
  t.same(capture.calls, ['+web', '-web'])
})

void t.test('a pod whose worker died is captured anew and served again, once', async (t) => {
  const { start, label, pod, sandbox, capture, told, listenersLost, until } = await setUpNode(t)
  label('shop', AMBIENT)
  const enrolment = await start()
  await enrolment.synced
  await enrolment.onAdd(await sandbox(pod('web')), inTime())
  capture.refusals.set('web', portTaken('web'))
  listenersLost.get('web')?.()
  await until(() => capture.calls.includes('!web'), 'an attempt that fails')
  t.equal(enrolment.enrolledPods().length, 1, 'it stays captured, cut off, and is tried again')
  capture.refusals.clear()
  await until(() => told.includes('served web again'), 'the attempt that succeeds')
  t.same(told, ['enrolled web as web', 'served web again'])
})

void t.test(
  'a pod that leaves the mesh just when its worker dies has left in the end, and is served',
  async (t) => {
    const { start, label, pod, sandbox, capture, told, listenersLost, until } = await setUpNode(t)
    label('shop', AMBIENT)
    const enrolment = await start()
    await enrolment.synced
    await enrolment.onAdd(await sandbox(pod('web')), inTime())
    const { promise, resolve } = Promise.withResolvers<void>()
    capture.gate = promise
    listenersLost.get('web')?.()
    await until(() => capture.isBusy, 'the new enrolment to begin')
    label('shop')
    label('later', AMBIENT)
    const later = enrolment.onAdd(await sandbox(pod('later', { namespace: 'later' })), inTime())
    resolve()
    await later
    const { uid = '' } = pod('web').metadata ?? {}
    await until(() => capture.left.has(uid) && !capture.enrolled.has(uid), 'the withdrawal')
    const served = (): number => told.filter((what) => what === 'served web again').length
    await until(() => served() === 2, 'HBONE to be served')
  },
)
