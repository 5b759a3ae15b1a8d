// SPDX-License-Identifier: Apache-2.0
// The catalogue of coded errors. Every failure a person may meet has a code, a sentence that names the
// object and the reason, and the next step to take. docs/errors.md is generated from this table.

export const ERROR_CATALOGUE = {
  AMB_NOT_ROOT: 'Run the command as root: capture needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN.',
  AMB_KERNEL_FEATURE: 'Use a kernel that has the named feature (5.15 or later has all of them).',
  AMB_CGROUP2_MISSING:
    'Mount cgroup v2: mount -t cgroup2 none /sys/fs/cgroup/unified (hybrid) or boot with it.',
  AMB_KUBELET_MISSING:
    "Name it by --kubelet-cgroup, or let it be found: the host's /proc (--proc-root) and /sys/fs/cgroup must be mounted in the agent's container.",
  AMB_LIBBPF_MISSING:
    'Install libbpf 0.5 or later (apt-get install libbpf1; libbpf0 on Ubuntu 22.04).',
  AMB_BPF_OBJECT: 'Rebuild the BPF objects (make -C bpf) and read the quoted verifier lines.',
  AMB_BPF_LAYOUT:
    'Two builds of one layout version have other maps, which no two releases have. Take the mesh off this node with the agent that was there (--unpin-on-exit), then start this one.',
  AMB_SYSCALL: 'Read the errno name; the operations guide lists the usual causes.',
  AMB_PORT_TAKEN: 'Free the port in that pod, or label the pod istio.io/dataplane-mode=none.',
  AMB_BAD_MANIFEST: 'Correct the named field and apply again.',
  AMB_KUBECONFIG:
    'Correct the named field, or name another kubeconfig by --kubeconfig or KUBECONFIG.',
  AMB_CA_SECRET:
    'Correct the named field, or restore it from a backup. Deleting ambit-ca-secret makes a new root, which cuts off every workload that trusts the old one.',
  AMB_CA_EXPIRY:
    'Replace the authority before that, without a pause: docs/operations.md, "Replacing the root".',
  AMB_CHART_VALUES:
    'Correct the named values; daemonset/chart/values.yaml has all of them with their defaults.',
  AMB_INSTALL:
    'Mend what is named, and say it again; docs/operations.md, "Install", has what an installation needs.',
  AMB_CNI_SOCKET:
    'Check that --cni-socket names a path in a directory of its own that root may write.',
  AMB_CNI_INSTALL:
    'Check --cni-bin-dir and --cni-conf-dir, and that the plugin is built (make -C native/cni).',
  AMB_KUBE_API: 'Check that the API server can be reached with this kubeconfig or service account.',
  AMB_KUBE_AUTH:
    'Renew the credentials of that context, or name another by --context; docs/operations.md lists what they must allow.',
  AMB_KUBE_TLS:
    'Correct certificate-authority, server or tls-server-name of that cluster in the kubeconfig.',
  AMB_KUBE_VERSION: 'Name a cluster of a later version.',
  AMB_LAB_CLASH:
    'If nobody needs the named object, remove it from that cluster; otherwise name another cluster.',
  AMB_FEW_DESCRIPTORS:
    'Raise RLIMIT_NOFILE of the agent (LimitNOFILE of the container runtime), or lower --max-connections-per-pod.',
  AMB_OTLP:
    'Correct the flag or the file that is named; docs/operations.md says what belongs there.',
  AMB_LISTEN: 'Free the address, or choose another with the flag that names it.',
  AMB_HANDOVER:
    'The agent starts again by itself. Where it goes on: check that one DaemonSet alone runs agents, and that root may write beside --cni-socket.',
  AMB_HELD_POLICIES:
    'Let the agent reach the controller: it tells the policies anew, and they are kept anew. The reason says what is wrong with the file.',
  AMB_ENROLMENT:
    'Read the reason; the agent tries again by itself. kubectl describe pod shows what it met.',
  AMB_POLICY_MISSING:
    'Check that the agent reaches the controller, and the status of the policy named; --missing-policies chooses what becomes of such calls.',
  AMB_POD_UNKNOWN:
    'Check that the agent reaches the API server; pods of namespaces outside the mesh start without it meanwhile.',
  AMB_AGENT_MISSING:
    'Name the cluster by --name (a lab), --kubeconfig or --context, and the namespace of the mesh by --system-namespace.',
  AMB_AGENT_UNREACHABLE:
    'Look at its pod (kubectl -n ambit-system get pods -l app=ambit-agent -o wide); the right to create pods/portforward there is needed.',
  AMB_DUMP: 'Save one with "ambit config-dump --node NODE > FILE".',
  AMB_WHY_UNKNOWN:
    'Look at what there is with "ambit workloads", "ambit services" and "ambit status".',
  AMB_LAB: 'Read the quoted log; "ambit lab down" removes what is there, then start it again.',
  AMB_CLUSTER:
    'Read the quoted log; "npm run cluster -- down" removes what is there, then start it again.',
  AMB_LAB_EXISTS: 'Take it down first ("ambit lab down --name NAME"), or choose another --name.',
  AMB_LAB_MISSING: 'Start one with "ambit lab up", or name another with --name.',
  AMB_LAB_TARGET: 'See what there is with "ambit lab status".',
  AMB_TOOL_MISSING:
    'Install it (Debian, Ubuntu: apt-get install iproute2 nftables util-linux mount tcpdump; kubectl from kubernetes.io).',
  AMB_GATEWAY_API:
    'Install them: https://gateway-api.sigs.k8s.io/guides/#installing-gateway-api, or lab/manifests/gateway-kinds.yaml.',
  AMB_WAYPOINT_MISSING: 'See what there is with "ambit waypoint list --all-namespaces".',
  AMB_WAYPOINT_UNREACHABLE:
    'Look at its pod (kubectl get pods -l gateway.networking.k8s.io/gateway-name); the right to create pods/portforward there is needed.',
  AMB_WAYPOINT_TAKEN: 'Choose another --name, or change the named object first.',
  AMB_WAYPOINT_NOT_READY:
    'Look at its pods (kubectl get pods -l gateway.networking.k8s.io/gateway-name=NAME) and at "ambit waypoint status".',
  AMB_USAGE: 'Run the command with --help.',
  AMB_BPFFS_MISSING:
    "Mount a BPF file system (mount -t bpf bpf /sys/fs/bpf); in a DaemonSet mount the host's, by a hostPath volume /sys/fs/bpf at /sys/fs/bpf with mountPropagation HostToContainer. The directory below it the agent makes.",
  AMB_CGROUP_OUTSIDE:
    'Attach at a cgroup that contains the agent; on a node that is the cgroup v2 root of the host.',
  AMB_HOST_NETWORK: 'Nothing to do: host network pods keep their plain connections.',
} as const satisfies Record<string, string>

export type ErrorCode = keyof typeof ERROR_CATALOGUE

/** An error a person may meet: a code from the catalogue, a message "Cannot X: Y", and the next step. */
export class AmbitError extends Error {
  readonly code: ErrorCode
  /** The next step to take, in one sentence. */
  readonly hint: string

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.name = 'AmbitError'
    this.code = code
    this.hint = ERROR_CATALOGUE[code]
  }
}

/** Gives the text of anything that was thrown. */
export function errorMessage(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
