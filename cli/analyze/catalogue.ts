// SPDX-License-Identifier: Apache-2.0
// Every finding of `ambit analyze`: its code, which stays what it is, how bad it is, what it means and what to do. docs/analyze.md has this
// table.

export type Severity = 'error' | 'warning' | 'info'

export interface FindingKind {
  readonly severity: Severity
  readonly title: string
  readonly cause: string
  readonly cure: string
}

/** By hundreds: references, policies without effect, rules, plaintext, reach, contradictions. */
export const CATALOGUE = {
  AMB101: {
    severity: 'warning',
    title: 'a policy selects nothing',
    cause: 'No pod, and no template of a pod, has all the labels of its selector.',
    cure: 'Correct the labels in spec.selector.matchLabels, or remove the policy.',
  },
  AMB102: {
    severity: 'error',
    title: 'the target of a policy does not exist',
    cause:
      'An entry of spec.targetRefs names an object that is not in the namespace of the policy.',
    cure: 'Create the object, or correct kind and name.',
  },
  AMB103: {
    severity: 'warning',
    title: 'a rule names a namespace that does not exist',
    cause:
      'A source is named by a namespace, or by an identity in one, that the cluster does not have.',
    cure: 'Correct the name; whoever creates that namespace later has what the rule says.',
  },
  AMB104: {
    severity: 'warning',
    title: 'a rule names a service account that does not exist',
    cause: 'The namespace of the identity is there, a service account of that name is not in it.',
    cure: 'Correct the name; whoever creates that account later has what the rule says.',
  },
  AMB105: {
    severity: 'warning',
    title: 'a Service selects nothing',
    cause:
      'No pod, and no template of a pod, of its namespace has all the labels of spec.selector.',
    cure: 'Correct spec.selector, or remove the Service.',
  },
  AMB106: {
    severity: 'error',
    title: 'a port of a Service names no port of a container',
    cause: 'targetPort is a name, and no container of the pods selected has a port of that name.',
    cure: 'Name the port in the containers, or give targetPort as a number.',
  },
  AMB107: {
    severity: 'error',
    title: 'a waypoint does not exist',
    cause:
      'The label istio.io/use-waypoint, or istio.io/use-waypoint-canary, names no Gateway of its namespace, or of that of the label with -namespace at its end.',
    cure: 'Create the Gateway, or correct the label; "none" asks for no waypoint.',
  },
  AMB108: {
    severity: 'error',
    title: 'a waypoint serves nobody',
    cause:
      "The Gateway that istio.io/use-waypoint names is not Programmed, or of a class that is not the mesh's. What is bound to it is refused meanwhile, unless the annotation ambit.io/waypoint-fail-open lets it pass; what a canary cannot take the waypoint beside it does.",
    cure: 'See "ambit waypoint status" and the conditions of the Gateway, or take the label away.',
  },
  AMB109: {
    severity: 'warning',
    title: 'a waypoint is for other traffic',
    cause:
      "The istio.io/waypoint-for of the Gateway, or of its class, leaves out what names it (service, if neither says): the traffic goes direct, a canary's share by the waypoint beside it.",
    cure: 'Label the Gateway istio.io/waypoint-for=all, or take istio.io/use-waypoint away.',
  },
  AMB110: {
    severity: 'error',
    title: 'a route leads to what does not exist',
    cause:
      'A backendRef, of a rule or of a mirror, names a Service, or a port of one, that is not there: its share of the requests is answered with 500 (of a GRPCRoute UNAVAILABLE), its share of the connections closed.',
    cure: 'Create the Service, or correct name, namespace and port.',
  },
  AMB111: {
    severity: 'error',
    title: 'a route is for a Service that does not exist',
    cause: 'An entry of spec.parentRefs names a Service, or a port of one, that is not there.',
    cure: 'Create the Service, or correct name, namespace and port.',
  },
  AMB112: {
    severity: 'error',
    title: 'a BackendTLSPolicy is for a Service that does not exist',
    cause:
      'An entry of spec.targetRefs names a Service, or by sectionName a port of one, that is not there: what was meant for TLS is sent as it is.',
    cure: 'Create the Service in the namespace of the policy, or correct name and sectionName.',
  },
  AMB113: {
    severity: 'error',
    title: 'an authority of a BackendTLSPolicy cannot be used',
    cause:
      'An entry of caCertificateRefs names no ConfigMap of the namespace of the policy that has certificates in its key ca.crt. Where no authority is left, waypoints send the Service nothing.',
    cure: 'Create the ConfigMap, with the certificates in PEM in its key ca.crt, or correct the name.',
  },
  AMB114: {
    severity: 'warning',
    title: 'a canary of a waypoint takes nothing',
    cause:
      'The label istio.io/use-waypoint-canary names the waypoint that it stands beside, stands beside none, or its annotation istio.io/use-waypoint-canary-weight is no whole number from 0 to 100: all connections go as if there were no canary.',
    cure: 'Name another Gateway, name a waypoint by istio.io/use-waypoint, or correct the weight.',
  },
  AMB115: {
    severity: 'error',
    title: 'a route names a waypoint as its parent',
    cause:
      'An entry of spec.parentRefs names a Gateway that is a waypoint. Waypoints follow the routes of the Services that use them: nobody follows this one there.',
    cure: 'Name the Services as parents (group "", kind Service).',
  },
  AMB201: {
    severity: 'warning',
    title: 'a condition is not evaluated',
    cause:
      'It is about requests, and the policy is for agents, which see connections; or it is of a kind that nobody evaluates, as tokens (JWT) are. By such a rule an ALLOW allows nothing, and a DENY denies more than is written.',
    cure: 'Attach the policy to a waypoint or a Service by spec.targetRefs, or write it in terms of connections.',
  },
  AMB202: {
    severity: 'error',
    title: 'a policy cannot be read',
    cause:
      'A field is misspelt, of the wrong type, or has a value that there is not. The policy is closed as far as it may concern somebody.',
    cure: 'Correct the field.',
  },
  AMB203: {
    severity: 'warning',
    title: 'a policy concerns nobody in the mesh',
    cause:
      'There are workloads of which it speaks, and none of them is in the mesh: nothing enforces it.',
    cure: 'Label the namespace or the pods istio.io/dataplane-mode=ambient, or remove the policy.',
  },
  AMB204: {
    severity: 'warning',
    title: 'a policy is attached to what no waypoint serves',
    cause:
      'An entry of spec.targetRefs names a Service that uses no waypoint, a ServiceEntry, or, outside of the root namespace, a class: nobody enforces the policy for it.',
    cure: 'Label the Service or its namespace istio.io/use-waypoint, name the Gateway itself, or use spec.selector and conditions on connections.',
  },
  AMB205: {
    severity: 'warning',
    title: 'a policy has no rules and does nothing',
    cause:
      'A DENY denies what its rules match, an AUDIT puts that on record: without rules that is nothing.',
    cure: 'Add a rule; "rules: [{}]" matches everything. Or remove the policy.',
  },
  AMB206: {
    severity: 'warning',
    title: 'a policy asks a provider, and is not in force',
    cause:
      'The action CUSTOM leaves the decision to an external service, which agents do not call.',
    cure: 'Use ALLOW or DENY.',
  },
  AMB207: {
    severity: 'warning',
    title: 'a dry run has been forgotten',
    cause:
      'The policy has been on trial (istio.io/dry-run) for more than seven days: it denies nothing.',
    cure: 'See what it would do with "ambit audit", and remove the annotation or the policy.',
  },
  AMB208: {
    severity: 'warning',
    title: 'an ALLOW policy has no effect beside a DENY of all',
    cause:
      'A DENY policy without conditions concerns all the workloads of which the ALLOW policy speaks, and denials come first.',
    cure: 'Remove one of them. To allow nobody but those who are named, the ALLOW policy alone is enough.',
  },
  AMB209: {
    severity: 'warning',
    title: 'a route is for a Service that uses no waypoint',
    cause: 'Routes are followed by waypoints: calls to the Service go where they were sent.',
    cure: 'Label the Service or its namespace istio.io/use-waypoint.',
  },
  AMB301: {
    severity: 'warning',
    title: 'a rule is covered by another',
    cause:
      'Whatever it matches, another rule of the same action matches as well, for all the same workloads.',
    cure: 'Remove it, or correct the one that is wider than was meant.',
  },
  AMB302: {
    severity: 'warning',
    title: 'a rule of a route takes nothing',
    cause:
      'Each of its matches stands word for word in a rule that comes before it, in the same route or in an older one of the same Service.',
    cure: 'Remove it, or correct the matches.',
  },
  AMB401: {
    severity: 'warning',
    title: 'somebody calls in plaintext where mutual TLS is required',
    cause: 'Agents have refused calls without identity, by a PeerAuthentication that is STRICT.',
    cure: 'Bring the caller into the mesh, or make the port PERMISSIVE by portLevelMtls.',
  },
  AMB402: {
    severity: 'error',
    title: 'the API server cannot call a webhook or an API that is STRICT',
    cause:
      'The API server is not in the mesh, and the pods behind the Service require mutual TLS at that port.',
    cure: 'Make that port PERMISSIVE by portLevelMtls of a PeerAuthentication with a selector.',
  },
  AMB403: {
    severity: 'warning',
    title: 'a Service is open to the outside, and its pods are STRICT',
    cause: 'Clients of a load balancer or node port have no identity of the mesh, and are refused.',
    cure: 'Make that port PERMISSIVE by portLevelMtls, or make the Service a ClusterIP.',
  },
  AMB501: {
    severity: 'warning',
    title: 'a Service has no ready endpoint',
    cause: 'Pods are selected, and no EndpointSlice of the Service has an endpoint that is ready.',
    cure: 'Look at the readiness of the pods: kubectl describe pod.',
  },
  AMB502: {
    severity: 'warning',
    title: 'nobody may call a Service',
    cause:
      'All pods of the Service are denied to everybody, or have ALLOW policies none of which has a rule that allows anything.',
    cure: 'Add an ALLOW policy with a rule for the callers, or remove the DENY of all.',
  },
  AMB503: {
    severity: 'warning',
    title: 'a Service is STRICT in a mesh without callers',
    cause: 'Its pods require mutual TLS, and no other workload is in the mesh to have an identity.',
    cure: 'Bring the callers into the mesh, or make the PeerAuthentication PERMISSIVE until they are.',
  },
  AMB601: {
    severity: 'warning',
    title: 'two PeerAuthentications speak for the same workloads',
    cause:
      'Both are for the whole mesh, for the same namespace, or select the same pod: the oldest counts, the other does not.',
    cure: 'Remove one, or let their selectors not meet.',
  },
  AMB602: {
    severity: 'warning',
    title: 'portLevelMtls names a port that nobody has',
    cause:
      'The pods selected declare ports, and this is none of them, nor a target of a Service. It must be the port in the pod, not that of the Service.',
    cure: 'Name the port that the container listens on.',
  },
  AMB603: {
    severity: 'error',
    title: 'sidecar injection and ambient mode are asked for at once',
    cause: 'A pod with a sidecar is never taken into the mesh by an agent, and one without is.',
    cure: 'Remove istio-injection, istio.io/rev or sidecar.istio.io/inject, or istio.io/dataplane-mode.',
  },
  AMB604: {
    severity: 'warning',
    title: 'istio.io/dataplane-mode has a value that means nothing',
    cause: 'The label is "ambient" or, on a pod, "none"; another value is as if it were not there.',
    cure: 'Write istio.io/dataplane-mode=ambient.',
  },
  AMB605: {
    severity: 'warning',
    title: 'NetworkPolicies keep out what the mesh carries',
    cause:
      'Pods of the mesh are called by HBONE, and all that the CNI sees of that is port 15008. Their NetworkPolicies let other ports of TCP through and not this one: where the CNI enforces them, calls between nodes fail.',
    cure: 'Add a rule with "ports: [{ port: 15008 }]". It opens no other port: the agents hold calls inside HBONE to the port that the app meant.',
  },
} as const satisfies Readonly<Record<string, FindingKind>>

export type FindingCode = keyof typeof CATALOGUE

/** From the worst on. */
export const SEVERITIES: readonly Severity[] = ['error', 'warning', 'info']
