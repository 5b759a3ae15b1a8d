// SPDX-License-Identifier: Apache-2.0
// What the lab's kubelet does with pods, seen as a user sees it: through the API, the pod's own eyes, and the node.

import t from 'tap'
import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from '../../lab/cluster/index.ts'
import { nodeLayout } from '../../lab/machine/layout.ts'
import { type Pod, PODS } from '../../mesh/kube/resources.ts'
import { watchResource } from '../../mesh/kube/watch-resource.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { missing } from '../helpers.ts'
import { ECHO_SERVER, IDLE, podManifest, testLab } from './fixture.ts'

const skip = missing('root', 'cgroup2')

async function getPod(lab: Lab, name: string): Promise<Pod | undefined> {
  const result = await lab.api.get(PODS, { namespace: 'default', name })
  return result.ok ? result.value : undefined
}

async function untilPod(
  lab: Lab,
  name: string,
  what: string,
  holds: (pod: Pod) => boolean,
): Promise<Pod> {
  return await lab.waitFor(`pod ${name} ${what}`, async () => {
    const pod = await getPod(lab, name)
    return pod !== undefined && holds(pod) ? pod : undefined
  })
}

const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') === true

const mainStatus = (pod: Pod) => pod.status?.containerStatuses?.[0]

async function eventsOf(lab: Lab, pod: string): Promise<string> {
  return await lab.kubectl(
    'get',
    'events',
    '--field-selector',
    `involvedObject.name=${pod}`,
    '-o',
    'wide',
  )
}

// Many small waits on a machine that other tests load as well.
await t.test('the kubelet of the lab', { skip }, async (t) => {
  const lab = await testLab(t)

  await t.test('runs a pod with its own address, host name, files, user and cgroup', async (t) => {
    await lab.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, motd: "hello\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {key: s3cret}
---
apiVersion: v1
kind: Pod
metadata:
  name: full
  labels: {app: full}
spec:
  nodeName: node-a
  hostAliases: [{ip: 192.0.2.7, hostnames: [elsewhere.test]}]
  containers:
    - name: main
      image: host
      command: [sleep, "1000"]
      workingDir: /work-here
      securityContext: {runAsUser: 1234, runAsGroup: 2345}
      env:
        - {name: GREETING, value: "hi $(COLOUR) $$(COLOUR) $(UNKNOWN)"}
        - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
        - {name: AGAIN, value: "$(COLOUR)"}
        - {name: HIDDEN, valueFrom: {secretKeyRef: {name: hidden, key: key}}}
        - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
        - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: NODE_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
      volumeMounts:
        - {name: config, mountPath: /etc/config}
        - {name: config, mountPath: /motd, subPath: motd}
        - {name: hidden, mountPath: /hidden, readOnly: true}
        - {name: scratch, mountPath: /scratch}
        - {name: token, mountPath: /var/run/secrets/tokens}
  volumes:
    - {name: config, configMap: {name: settings}}
    - {name: hidden, secret: {secretName: hidden, items: [{key: key, path: deep/key}]}}
    - {name: scratch, emptyDir: {}}
    - name: token
      projected: {sources: [{serviceAccountToken: {audience: istio-ca, expirationSeconds: 3600, path: istio-token}}]}
`)
    const pod = await untilPod(lab, 'full', 'is ready', isReady)
    const run = async (script: string): Promise<string> => {
      const output = await lab.exec('full', ['sh', '-c', script])
      t.equal(output.stderr, '', script)
      return output.stdout.trim()
    }
    t.equal(pod.status?.podIP, '10.244.0.2')
    t.strictSame(pod.status?.podIPs, [{ ip: '10.244.0.2' }, { ip: 'fd98:244::2' }])
    t.equal(await run('hostname; pwd; id -u; id -g'), 'full\n/work-here\n1234\n2345')
    t.equal(
      await run('echo "$AGAIN|$HIDDEN|$ME|$APP|$IP|$NODE_IP|$GREETING"'),
      'green|s3cret|full|full|10.244.0.2|172.30.0.10|hi $(COLOUR) $(COLOUR) $(UNKNOWN)',
    )
    t.equal(await run('cat /etc/config/colour /motd /hidden/deep/key'), 'greenhello\ns3cret')
    t.equal(await run('echo x > /scratch/file; cat /scratch/file'), 'x')
    t.match(await run('cat /etc/hosts'), /10\.244\.0\.2\tfull\n.*192\.0\.2\.7\telsewhere\.test/s)
    t.match(
      await run('cat /etc/resolv.conf'),
      /search default\.svc\.cluster\.local .*nameserver 10\.96\.0\.10/s,
    )
    t.match(
      await run('cat /proc/self/cgroup'),
      `0::/ambit-${lab.name}/node-a/kubepods/pod${pod.metadata?.uid ?? ''}/main`,
    )
    const claims = (token: string): { aud: string[]; sub: string } =>
      JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as never
    const istio = claims(await run('cat /var/run/secrets/tokens/istio-token'))
    t.strictSame(istio.aud, ['istio-ca'])
    t.equal(istio.sub, 'system:serviceaccount:default:default')
    const mount = '/var/run/secrets/kubernetes.io/serviceaccount'
    t.match(await run(`cat ${mount}/ca.crt`), 'BEGIN CERTIFICATE')
    t.equal(await run(`cat ${mount}/namespace`), 'default')
    t.equal(
      await run(
        `curl -s --cacert ${mount}/ca.crt -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $(cat ${mount}/token)" https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version`,
      ),
      '200',
    )
    t.match(await run('touch /tmp/ambit-only-here && ls /tmp/ambit-only-here'), 'only-here')
    t.notOk(
      readdirSync('/tmp').includes('ambit-only-here'),
      'the writable layer is the container’s own',
    )
    await lab.kubectl('patch', 'configmap', 'settings', '-p', '{"data":{"colour":"blue"}}')
    await lab.waitFor('the new colour in the volume', async () =>
      (await run('cat /etc/config/colour')) === 'blue' ? true : undefined,
    )
  })

  await t.test(
    'runs init containers in order, each to its good end, before the others',
    async (t) => {
      const step = (name: string, script: string): object => ({
        name,
        image: 'host',
        command: ['sh', '-c', script],
        volumeMounts: [{ name: 'shared', mountPath: '/shared' }],
      })
      await lab.apply(
        podManifest('ordered', ['sh', '-c', 'echo main >> /shared/log; sleep 1000'], {
          pod: {
            volumes: [{ name: 'shared', emptyDir: {} }],
            initContainers: [
              step('first', 'echo first >> /shared/log'),
              // Fails at its first try: is repeated before anything else starts.
              step(
                'second',
                '[ -e /shared/tried ] || { touch /shared/tried; exit 3; }; echo second >> /shared/log',
              ),
            ],
          },
          container: { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] },
        }),
      )
      const pod = await untilPod(lab, 'ordered', 'is ready', isReady)
      t.equal((await lab.exec('ordered', ['cat', '/shared/log'])).stdout, 'first\nsecond\nmain\n')
      t.equal(pod.status?.initContainerStatuses?.[1]?.restartCount, 1)
    },
  )

  await t.test(
    'restarts a container that was killed, at once, and says how it ended',
    async (t) => {
      await lab.apply(podManifest('victim', IDLE))
      await untilPod(lab, 'victim', 'is ready', isReady)
      const before = lab.pod('victim').containers[0]?.process?.pid ?? 0
      const phases = new Set<string | undefined>()
      const watched = watchResource(lab.api, PODS, {
        fieldSelector: 'metadata.name=victim',
        logger: createLogger('test', 'silent'),
        updated: (_, each) => phases.add(each.status?.phase),
      })
      await watched.synced
      process.kill(before, 'SIGKILL')
      const pod = await untilPod(
        lab,
        'victim',
        'runs again',
        (each) => mainStatus(each)?.restartCount === 1 && isReady(each),
      )
      await watched.close()
      // A controller would replace a pod that is Failed, if only for a moment.
      t.strictSame([...phases], ['Running'])
      t.equal(mainStatus(pod)?.lastState?.terminated?.exitCode, 137)
      t.not(lab.pod('victim').containers[0]?.process?.pid, before)
    },
  )

  await t.test(
    'backs off from a container that keeps failing, and quotes its last words',
    async (t) => {
      await lab.apply(podManifest('failing', ['sh', '-c', 'echo no luck; exit 7']))
      const pod = await untilPod(
        lab,
        'failing',
        'is in back-off',
        (each) => mainStatus(each)?.state?.waiting?.reason === 'CrashLoopBackOff',
      )
      const terminated = mainStatus(pod)?.lastState?.terminated
      t.equal(terminated?.exitCode, 7)
      t.equal(terminated?.message, 'no luck')
      t.match(await lab.kubectl('logs', 'failing'), 'no luck')
    },
  )

  await t.test('reports a pod that runs to its end by its restart policy', async (t) => {
    await lab.apply(podManifest('good', ['true'], { pod: { restartPolicy: 'Never' } }))
    await lab.apply(podManifest('bad', ['false'], { pod: { restartPolicy: 'Never' } }))
    const good = await untilPod(
      lab,
      'good',
      'succeeds',
      (each) => each.status?.phase === 'Succeeded',
    )
    const bad = await untilPod(lab, 'bad', 'fails', (each) => each.status?.phase === 'Failed')
    t.equal(mainStatus(good)?.state?.terminated?.reason, 'Completed')
    t.equal(mainStatus(bad)?.restartCount, 0)
  })

  await t.test(
    'probes from the node: readiness follows the app, liveness restarts it',
    async (t) => {
      const server = `
      let isReady = false
      const http = require('node:http')
      http.createServer((request, response) => {
        if (request.url === '/toggle') isReady = !isReady
        if (request.url === '/peer') lastPeer = request.socket.remoteAddress
        if (request.url === '/ready') globalThis.peer = request.socket.remoteAddress
        if (request.url === '/peer?') { response.end(String(globalThis.peer)); return }
        response.statusCode = request.url === '/ready' && !isReady ? 503 : 200
        response.end('ok')
      }).listen(8080, '0.0.0.0')
      require('node:net').createServer((socket) => socket.destroy()).listen(8081, '0.0.0.0')`
      await lab.apply(
        podManifest('probed', ['node', '-e', server], {
          node: 'node-b',
          container: {
            ports: [{ name: 'http', containerPort: 8080 }],
            startupProbe: { tcpSocket: { port: 8081 }, periodSeconds: 1, failureThreshold: 20 },
            readinessProbe: {
              httpGet: { path: '/ready', port: 'http' },
              periodSeconds: 1,
              failureThreshold: 1,
            },
            livenessProbe: {
              exec: { command: ['sh', '-c', '[ ! -e /tmp/unwell ]'] },
              periodSeconds: 1,
              // How long a busy machine takes to run it says nothing.
              timeoutSeconds: 30,
              failureThreshold: 1,
            },
          },
        }),
      )
      const started = await untilPod(
        lab,
        'probed',
        'has started',
        (each) => mainStatus(each)?.started === true,
      )
      t.notOk(isReady(started))
      const get = async (path: string): Promise<string> =>
        (await lab.exec('probed', ['curl', '-s', `http://127.0.0.1:8080${path}`])).stdout
      await get('/toggle')
      await untilPod(lab, 'probed', 'is ready', isReady)
      t.equal(await get('/peer?'), '172.30.0.11', 'the probe came from the node’s own address')
      await get('/toggle')
      await untilPod(lab, 'probed', 'is unready again', (each) => !isReady(each))
      await lab.exec('probed', ['touch', '/tmp/unwell'])
      await untilPod(lab, 'probed', 'was restarted', (each) => mainStatus(each)?.restartCount === 1)
      t.match(await eventsOf(lab, 'probed'), /Unhealthy.*Liveness probe failed: exec: exit code 1/)
    },
  )

  await t.test('runs postStart in the container before it counts as started', async (t) => {
    await lab.apply(
      podManifest('hooked', IDLE, {
        container: { lifecycle: { postStart: { exec: { command: ['touch', '/tmp/hooked'] } } } },
      }),
    )
    await untilPod(lab, 'hooked', 'is ready', isReady)
    t.equal((await lab.exec('hooked', ['ls', '/tmp/hooked'])).code, 0)
  })

  await t.test(
    'deletes with SIGTERM first, SIGKILL when the grace is over, and leaves nothing',
    async (t) => {
      await lab.apply(
        podManifest('stubborn', ['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done'], {
          node: 'node-a',
        }),
      )
      await lab.apply(
        podManifest('polite', ['sh', '-c', 'trap "exit 0" TERM; sleep 1000 & wait'], {
          node: 'node-a',
          pod: { terminationGracePeriodSeconds: 30 },
        }),
      )
      const pod = await untilPod(lab, 'stubborn', 'is ready', isReady)
      await untilPod(lab, 'polite', 'is ready', isReady)
      const startedAt = Date.now()
      await lab.kubectl('delete', 'pod', 'polite')
      // The time is the behaviour here: its grace would be 30 s.
      t.ok(Date.now() - startedAt < 15_000, 'a pod that obeys does not wait out its grace')
      const before = Date.now()
      await lab.kubectl('delete', 'pod', 'stubborn')
      t.ok(Date.now() - before >= 900, 'the grace was given')
      const uid = pod.metadata?.uid ?? ''
      const cgroups = readdirSync(nodeLayout(lab.layout, 'node-a').podsCgroup)
      t.notOk(cgroups.includes(`pod${uid}`), 'its cgroup is gone')
      t.notOk(readdirSync('/run/netns').includes(`ambit-${lab.name}-p-${uid.slice(0, 8)}`))
      t.notOk(readdirSync(lab.layout.podsDir).includes(uid))
      const routes = await lab.nodeExec('node-a', ['ip', 'route', 'show', pod.status?.podIP ?? ''])
      t.equal(routes.stdout, '')
    },
  )

  await t.test(
    'a pod that ends is probed for readiness to its last moment, and serves as long as it says so',
    async (t) => {
      const server = `
      let isReady = true
      process.on('SIGTERM', () => undefined)
      require('node:http').createServer((request, response) => {
        if (request.url === '/toggle') isReady = !isReady
        response.statusCode = request.url === '/ready' && !isReady ? 503 : 200
        response.end('ok')
      }).listen(8080, '0.0.0.0')`
      await lab.apply(`
apiVersion: v1
kind: Service
metadata: {name: ending}
spec: {selector: {app: ending}, ports: [{port: 80, targetPort: 8080}]}
`)
      await lab.apply(
        podManifest('ending', ['node', '-e', server], {
          node: 'node-a',
          labels: { app: 'ending' },
          pod: { terminationGracePeriodSeconds: 3600 },
          container: {
            readinessProbe: {
              httpGet: { path: '/ready', port: 8080 },
              periodSeconds: 1,
              failureThreshold: 1,
            },
            livenessProbe: {
              exec: { command: ['sh', '-c', '[ ! -e /tmp/unwell ]'] },
              periodSeconds: 1,
              // How long a busy machine takes to run it says nothing.
              timeoutSeconds: 30,
              failureThreshold: 1,
            },
          },
        }),
      )
      const untilEndpoint = async (what: string, conditions: object): Promise<void> => {
        await lab.waitFor(`the endpoint ${what}`, async () => {
          const selector = 'kubernetes.io/service-name=ending'
          const path = '-o=jsonpath={.items[0].endpoints[0].conditions}'
          const found = await lab.kubectl('get', 'endpointslices', '-l', selector, path)
          return JSON.stringify(conditions) === found.trim() ? true : undefined
        })
      }
      await untilPod(lab, 'ending', 'is ready', isReady)
      await untilEndpoint('is ready', { ready: true, serving: true, terminating: false })
      await lab.kubectl('delete', 'pod', 'ending', '--wait=false')
      await untilEndpoint('serves to its end', { ready: false, serving: true, terminating: true })
      const toggle = ['curl', '-s', 'http://127.0.0.1:8080/toggle']
      await lab.exec('ending', ['touch', '/tmp/unwell'])
      await lab.exec('ending', toggle)
      await untilEndpoint('serves no more', { ready: false, serving: false, terminating: true })
      await lab.exec('ending', toggle)
      await untilEndpoint('serves again', { ready: false, serving: true, terminating: true })
      t.equal((await lab.exec('ending', ['true'])).code, 0, 'nobody asked for its liveness')
      await lab.kubectl('delete', 'pod', 'ending', '--force', '--grace-period=0')
      t.equal(await getPod(lab, 'ending'), undefined)
    },
  )

  await t.test(
    'refuses images other than "host" and containers without a command, saying why',
    async (t) => {
      await lab.apply(podManifest('nginx', IDLE, { container: { image: 'nginx:1.27' } }))
      await lab.apply(podManifest('mute', [], {}))
      await lab.apply(
        podManifest('odd', IDLE, { annotations: { 'lab.ambit.dev/ip-families': 'IPv5' } }),
      )
      const waiting = async (name: string): Promise<{ reason?: string; message?: string }> => {
        const pod = await untilPod(
          lab,
          name,
          'is refused',
          (each) => mainStatus(each)?.state?.waiting?.message !== undefined,
        )
        return mainStatus(pod)?.state?.waiting ?? {}
      }
      t.match(await waiting('nginx'), {
        reason: 'ErrImageNeverPull',
        message: /no image "nginx:1.27".*use image "host"/,
      })
      t.match(await waiting('mute'), { reason: 'CreateContainerConfigError', message: /give one/ })
      t.match(await waiting('odd'), {
        reason: 'CreateContainerConfigError',
        message: /ip-families must be/,
      })
      t.match(await eventsOf(lab, 'nginx'), 'no image "nginx:1.27"')
    },
  )

  await t.test(
    'explains a command that does not exist and a ConfigMap that is missing',
    async (t) => {
      await lab.apply(podManifest('nocommand', ['/no/such/program']))
      await lab.apply(
        podManifest('noconfig', IDLE, {
          container: {
            env: [{ name: 'X', valueFrom: { configMapKeyRef: { name: 'later', key: 'x' } } }],
          },
        }),
      )
      const pod = await untilPod(
        lab,
        'nocommand',
        'fails',
        (each) => mainStatus(each)?.lastState?.terminated !== undefined,
      )
      t.equal(mainStatus(pod)?.lastState?.terminated?.exitCode, 127)
      t.match(mainStatus(pod)?.lastState?.terminated?.message, '/no/such/program')
      const waiting = await untilPod(
        lab,
        'noconfig',
        'waits',
        (each) => mainStatus(each)?.state?.waiting?.message !== undefined,
      )
      t.match(mainStatus(waiting)?.state?.waiting?.message, 'configmap "later" not found')
      await lab.kubectl('create', 'configmap', 'later', '--from-literal=x=y')
      await untilPod(lab, 'noconfig', 'is ready', isReady)
    },
  )

  await t.test(
    'runs host network pods in the node’s namespace and under their own cgroup',
    async (t) => {
      await lab.apply(
        podManifest('onhost', IDLE, {
          node: 'node-b',
          pod: { hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' },
        }),
      )
      const pod = await untilPod(lab, 'onhost', 'is ready', isReady)
      t.equal(pod.status?.podIP, '172.30.0.11')
      t.match((await lab.exec('onhost', ['ip', '-br', 'addr'])).stdout, '172.30.0.11')
      t.match((await lab.exec('onhost', ['cat', '/etc/resolv.conf'])).stdout, '10.96.0.10')
      t.match(
        readFileSync(`/proc/${lab.pod('onhost').containers[0]?.process?.pid ?? 0}/cgroup`, 'utf8'),
        /node-b\/kubepods\/pod/,
      )
    },
  )

  await t.test('gives a pod the address families that it asks for', async (t) => {
    for (const [name, families] of [
      ['only4', 'IPv4'],
      ['only6', 'IPv6'],
    ] as const) {
      await lab.apply(
        podManifest(name, ECHO_SERVER, { annotations: { 'lab.ambit.dev/ip-families': families } }),
      )
      const pod = await untilPod(lab, name, 'is ready', isReady)
      t.equal(pod.status?.podIPs?.length, 1)
      t.equal(pod.status?.podIP?.includes(':'), families === 'IPv6')
      const addresses = (await lab.exec(name, ['ip', '-br', 'addr', 'show', 'dev', 'eth0'])).stdout
      t.equal(addresses.includes('10.244.'), families === 'IPv4')
      t.equal(addresses.includes('fd98:'), families === 'IPv6')
    }
  })

  await t.test(
    'calls the whole CNI chain, reports a plugin that fails, and undoes in reverse',
    async (t) => {
      const node = nodeLayout(lab.layout, 'node-b')
      const [file = ''] = readdirSync(node.cniNetDir)
      const path = join(node.cniNetDir, file)
      const original = readFileSync(path, 'utf8')
      const plugin = join(node.cniBinDir, 'recorder')
      const journal = join(node.dir, 'journal')
      writeFileSync(
        plugin,
        `#!/bin/sh
config=$(cat)
echo "$CNI_COMMAND $CNI_IFNAME $CNI_NETNS $CNI_ARGS $config" >> ${journal}
if [ -e ${journal}.fail ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"not now","details":"the test says so"}'; exit 1; fi
[ "$CNI_COMMAND" = ADD ] && echo "$config" | sed 's/.*"prevResult"://; s/}$//'
exit 0
`,
      )
      chmodSync(plugin, 0o755)
      const list = JSON.parse(original) as { plugins: object[] }
      writeFileSync(
        path,
        JSON.stringify({ ...list, plugins: [...list.plugins, { type: 'recorder', mark: 1 }] }),
      )
      t.teardown(() => writeFileSync(path, original))
      writeFileSync(`${journal}.fail`, '')
      await lab.apply(podManifest('chained', IDLE, { node: 'node-b' }))
      await lab.waitFor('the event', async () =>
        (await eventsOf(lab, 'chained')).includes('not now: the test says so') ? true : undefined,
      )
      const pending = await getPod(lab, 'chained')
      t.equal(pending?.status?.phase, 'Pending')
      writeFileSync(
        plugin,
        readFileSync(plugin, 'utf8').replace(`${journal}.fail`, '/no/such/file'),
      )
      const pod = await untilPod(lab, 'chained', 'is ready', isReady)
      await lab.kubectl('delete', 'pod', 'chained')
      const lines = readFileSync(journal, 'utf8').trim().split('\n')
      const add = lines.findLast((line) => line.startsWith('ADD')) ?? ''
      const last = lines.at(-1) ?? ''
      t.match(add, /K8S_POD_NAMESPACE=default;K8S_POD_NAME=chained;/)
      t.match(add, `K8S_POD_UID=${pod.metadata?.uid ?? ''}`)
      t.match(add, '"mark":1')
      t.match(add, `"address":"${pod.status?.podIP ?? ''}/32"`)
      t.match(last, /^DEL eth0 /)
      t.match(last, '"prevResult"')
    },
  )
})
