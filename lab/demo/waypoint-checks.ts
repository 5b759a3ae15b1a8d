// SPDX-License-Identifier: Apache-2.0
// What the demonstration shows of waypoints: one is there by a command, shares the catalog's calls out by weight and by header, keeps a path
// closed, and what is bound to it is out of reach without it. They leave no waypoint, route, policy or label behind.

import { type Check, CheckFailed, type DemoLab, expect } from './check.ts'

const CALLS = 200
/** Of 200 calls a tenth is 20; beyond five standard deviations from there nobody would believe the weights. */
const FEWEST = 1
const MOST = 41
/** What a change may take to reach a waypoint, on a busy machine. */
const IN_FORCE_MS = 30_000
const NAMESPACE = 'shop'
const GROUP = 'gateway.networking.k8s.io'

const NO_ADMIN = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { namespace: NAMESPACE, name: 'no-admin' },
  spec: {
    targetRefs: [{ group: '', kind: 'Service', name: 'catalog' }],
    action: 'DENY',
    rules: [{ to: [{ operation: { paths: ['/admin'] } }] }],
  },
} as const

interface Answer {
  readonly version: string
  readonly client: string
}

interface Backend {
  readonly version: 'v1' | 'v2'
  readonly weight: number
}

/** A Service of one version of the catalog, for routes to lead to. */
const versionService = (version: string): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: NAMESPACE, name: `catalog-${version}` },
  spec: {
    selector: { app: 'catalog', version },
    ports: [{ name: 'http', port: 80, targetPort: 8080 }],
  },
})

/** A route of the catalog by these rules. */
function route(
  rules: readonly { readonly matches?: readonly object[]; readonly backends: readonly Backend[] }[],
): object {
  return {
    apiVersion: `${GROUP}/v1`,
    kind: 'HTTPRoute',
    metadata: { namespace: NAMESPACE, name: 'catalog' },
    spec: {
      parentRefs: [{ group: '', kind: 'Service', name: 'catalog' }],
      rules: rules.map(({ matches, backends }) => ({
        ...(matches !== undefined && { matches }),
        backendRefs: backends.map(({ version, weight }) => ({
          name: `catalog-${version}`,
          port: 80,
          weight,
        })),
      })),
    },
  }
}

/** The checks, in an order that each of them relies on. */
export function waypointChecks(lab: DemoLab): readonly Check[] {
  const answers = async (
    calls: number,
    ...flags: readonly string[]
  ): Promise<readonly Answer[]> => {
    const url = `http://catalog.shop/?[1-${calls}]`
    const curl = ['curl', '-sS', '-f', '--fail-early', '-m', '20', ...flags, url] as const
    const stdout = await lab.exec('shop/frontend', ...curl)
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Answer)
  }
  const ofV2 = (all: readonly Answer[]): number =>
    all.filter(({ version }) => version === 'v2').length
  /** Whether the calls are answered at all. */
  const isServed = async (): Promise<boolean> => {
    try {
      return (await answers(1)).length === 1
    } catch (thrown) {
      if (thrown instanceof CheckFailed) return false
      throw thrown
    }
  }
  const untilTrue = async (what: string, holds: () => Promise<boolean>): Promise<number> => {
    const since = performance.now()
    while (!(await holds()))
      if (performance.now() - since > IN_FORCE_MS)
        throw new CheckFailed(`${what}: not within ${IN_FORCE_MS} ms`)
    return Math.round(performance.now() - since)
  }
  const label = (...change: readonly string[]): Promise<string> =>
    lab.kubectl('label', 'namespace', NAMESPACE, '--overwrite', ...change)

  return [
    {
      title: 'a command makes a waypoint for the namespace; the server still sees its client',
      run: async () => {
        for (const version of ['v1', 'v2']) await lab.apply(versionService(version))
        const since = performance.now()
        await lab.ambit('waypoint', 'apply', '-n', NAMESPACE, '--enroll-namespace', '--wait')
        const readyMs = Math.round(performance.now() - since)
        await untilTrue('a call through the waypoint', isServed)
        const [answer] = await answers(1)
        const addresses = await lab.kubectl(
          ...['get', 'pod', '-n', NAMESPACE, 'frontend', '-o', 'jsonpath={.status.podIPs[*].ip}'],
        )
        expect(
          addresses.split(' ').includes(answer?.client ?? ''),
          `the server saw ${answer?.client}, the pod is ${addresses}`,
        )
        return `ready ${readyMs} ms after the command; the server saw ${answer?.client}`
      },
    },
    {
      title: 'an HTTPRoute gives a tenth of the calls to v2',
      run: async () => {
        const shared = (v1: number, v2: number): object =>
          route([
            {
              backends: [
                { version: 'v1', weight: v1 },
                { version: 'v2', weight: v2 },
              ],
            },
          ])
        await lab.apply(shared(1, 0))
        await untilTrue('v1 alone', async () => ofV2(await answers(20)) === 0)
        await lab.apply(shared(90, 10))
        const ms = await untilTrue('the first call to v2', async () => ofV2(await answers(20)) > 0)
        const seen = ofV2(await answers(CALLS))
        expect(seen >= FEWEST && seen <= MOST, `${seen} of ${CALLS} calls went to v2`)
        return `${seen} of ${CALLS} calls went to v2; the first within ${ms} ms of kubectl apply`
      },
    },
    {
      title: 'a header leads a tester to v2, and nobody else',
      run: async () => {
        const matches = [{ headers: [{ name: 'x-user', value: 'tester' }] }]
        await lab.apply(
          route([
            { matches, backends: [{ version: 'v2', weight: 1 }] },
            { backends: [{ version: 'v1', weight: 1 }] },
          ]),
        )
        await untilTrue('v1 for others', async () => ofV2(await answers(20)) === 0)
        const tester = ofV2(await answers(20, '-H', 'x-user: tester'))
        const others = ofV2(await answers(20, '-H', 'x-user: another'))
        expect(tester === 20 && others === 0, `tester: ${tester}, others: ${others} of 20`)
        return `20 of 20 calls with "x-user: tester" went to v2, 0 of 20 of another's`
      },
    },
    {
      title: 'a policy closes a path at the waypoint; the refusal is in the audit, by rule',
      run: async () => {
        const { namespace, name } = NO_ADMIN.metadata
        const policy = ['-n', namespace, 'authorizationpolicy'] as const
        const statusOf = async (path: string): Promise<string> => {
          const curl = ['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '--path-as-is']
          return await lab.exec('shop/frontend', ...curl, `http://catalog.shop${path}`)
        }
        await lab.apply(NO_ADMIN)
        await lab.kubectl(
          ...['wait', ...policy, name, '--for=condition=Enforced'],
          `--timeout=${IN_FORCE_MS / 1000}s`,
        )
        for (const path of ['/admin', '/x/%2e%2e/admin'])
          expect((await statusOf(path)) === '403', `${path} was not refused`)
        expect((await statusOf('/')) === '200', 'the rest of the catalog was refused')
        const lines = (await lab.ambit('audit', '--namespace', namespace)).split('\n')
        const line = lines.find((each) => /request\.denied .*GET catalog\.shop\/admin /.test(each))
        expect(
          line?.includes(`[AuthorizationPolicy ${namespace}/${name} rules[0]]`) === true,
          `audit: ${line}`,
        )
        await lab.kubectl('delete', ...policy, name)
        return '403 for /admin and /x/%2e%2e/admin, 200 for /; AuthorizationPolicy shop/no-admin rules[0] in the audit'
      },
    },
    {
      title: 'without its waypoint the catalog is out of reach, until the label is gone, too',
      run: async () => {
        await lab.ambit('waypoint', 'delete', '-n', NAMESPACE, 'waypoint')
        await lab.kubectl('delete', 'httproute', '-n', NAMESPACE, 'catalog')
        const closedMs = await untilTrue('a refusal', async () => !(await isServed()))
        await label('istio.io/use-waypoint-')
        const openMs = await untilTrue('a call past the waypoint', isServed)
        await lab.kubectl('delete', 'service', '-n', NAMESPACE, 'catalog-v1', 'catalog-v2')
        await lab.kubectl(
          ...['wait', 'pod', '-n', NAMESPACE, '-l', `${GROUP}/gateway-name=waypoint`],
          ...['--for=delete', `--timeout=${IN_FORCE_MS / 1000}s`],
        )
        return `refused ${closedMs} ms after the command, direct again ${openMs} ms after the label went`
      },
    },
  ]
}
