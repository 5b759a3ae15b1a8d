// SPDX-License-Identifier: Apache-2.0
// What the demonstration shows of policy: one caller gets in and another does not, mutual TLS can be required, and each refusal stands
// in the audit with the object and rule that made it, and is what `why` says. They leave no policy behind.

import { type Check, CheckFailed, type ClientReport, type DemoLab, expect } from './check.ts'

const IN_FORCE_S = 30
const CATALOG_IDENTITY = 'spiffe://cluster.local/ns/shop/sa/catalog'

const FRONTEND_ONLY = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { namespace: 'shop', name: 'frontend-only' },
  spec: {
    action: 'DENY',
    rules: [{ from: [{ source: { notPrincipals: ['cluster.local/ns/shop/sa/frontend'] } }] }],
  },
}
const STRICT = {
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { namespace: 'shop', name: 'strict' },
  spec: { mtls: { mode: 'STRICT' } },
}

type PolicyObject = typeof FRONTEND_ONLY | typeof STRICT

/** One line of the audit. */
interface AuditLine {
  readonly audit?: string
  readonly who?: string
  readonly what?: string
  readonly object?: string
  readonly rule?: number
  readonly [field: string]: unknown
}

/** What `ambit why` says, as far as it is compared. */
interface Foretold {
  readonly outcome?: string
  readonly steps?: readonly { readonly object?: string }[]
  readonly summary?: string
}

/** A refusal that was made, and what was said of it beforehand. */
interface Compared {
  readonly made: AuditLine
  readonly foretold: Foretold
}

/** `call` runs the sample client in a pod; one that is not answered gives what it was told instead. */
export function policyChecks(
  lab: DemoLab,
  call: (pod: string, url: string) => Promise<ClientReport>,
): readonly Check[] {
  const inForce = async (policy: PolicyObject): Promise<void> => {
    await lab.apply(policy)
    await lab.kubectl(
      ...['wait', '-n', 'shop', `${policy.kind.toLowerCase()}/${policy.metadata.name}`],
      ...['--for=condition=Enforced', `--timeout=${IN_FORCE_S}s`],
    )
  }
  const removed = async ({ kind, metadata }: PolicyObject): Promise<void> => {
    await lab.kubectl('delete', '-n', metadata.namespace, kind.toLowerCase(), metadata.name)
  }

  const refused = async (pod: string, url: string): Promise<void> => {
    const report = await call(pod, url).catch((thrown: unknown) => {
      if (thrown instanceof CheckFailed) return undefined
      throw thrown
    })
    expect(report?.answer === undefined, `${pod} was served: ${JSON.stringify(report)}`)
  }
  const denials = async (): Promise<readonly AuditLine[]> => {
    const lines = (await lab.ambit('audit', '--namespace', 'shop', '-o', 'json')).split('\n')
    return lines
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as AuditLine)
      .filter(({ audit }) => audit === 'connection.denied')
  }
  const onRecord = async (matches: (line: AuditLine) => boolean): Promise<AuditLine> => {
    const deadline = performance.now() + IN_FORCE_S * 1_000
    for (;;) {
      const lines = await denials()
      const found = lines.find(matches)
      if (found !== undefined) return found
      // The caller hears of its refusal first, the audit a moment later.
      if (performance.now() > deadline)
        throw new CheckFailed(`no such line in the audit: ${JSON.stringify(lines.slice(-5))}`)
    }
  }

  /** Asked while the policy is in force. */
  const why = async (source: string, destination: string): Promise<Foretold> =>
    JSON.parse(await lab.ambitSays('why', source, destination, '-o', 'json')) as Foretold
  const compared: Compared[] = []

  return [
    {
      title: 'a policy lets only the frontend in; the refusal of another is in the audit, by rule',
      run: async () => {
        await inForce(FRONTEND_ONLY)
        try {
          const served = await call('shop/frontend', 'http://catalog.shop/')
          expect(served.answer !== undefined, `the frontend: ${JSON.stringify(served)}`)
          const [foretold] = await Promise.all([
            why('shop/catalog-v1', 'shop/frontend'),
            refused('shop/catalog-v1', 'http://frontend.shop/'),
          ])
          const line = await onRecord(
            ({ who, object }) =>
              who === CATALOG_IDENTITY && object === 'AuthorizationPolicy shop/frontend-only',
          )
          expect(line.rule === 0, JSON.stringify(line))
          compared.push({ made: line, foretold })
          return `${line.who} to ${line.what}: ${line.object} rules[${line.rule}]`
        } finally {
          await removed(FRONTEND_ONLY)
        }
      },
    },
    {
      title: 'STRICT refuses who calls in plaintext, and nobody else',
      run: async () => {
        await inForce(STRICT)
        try {
          const [foretold] = await Promise.all([
            why('legacy/batch', 'shop/catalog'),
            refused('legacy/batch', 'http://catalog.shop/'),
          ])
          const served = await call('shop/frontend', 'http://catalog.shop/')
          expect(served.answer !== undefined, `the frontend: ${JSON.stringify(served)}`)
          const line = await onRecord(({ object }) => object === 'PeerAuthentication shop/strict')
          compared.push({ made: line, foretold })
          return `${line.who} to ${line.what}: ${line.object}; the kubelet's probes go on`
        } finally {
          await removed(STRICT)
        }
      },
    },
    {
      title: '`ambit why` foretold both refusals, by the same objects',
      run: async () => {
        expect(compared.length === 2, `it was asked of ${compared.length} refusals`)
        for (const { made, foretold } of compared)
          expect(
            foretold.outcome === 'fails' && foretold.steps?.at(-1)?.object === made.object,
            `the audit: ${JSON.stringify(made)}; why: ${JSON.stringify(foretold)}`,
          )
        return compared.map(({ foretold }) => foretold.summary).join(' ')
      },
    },
  ]
}
