// SPDX-License-Identifier: Apache-2.0
// Imports run one way: cli, lab -> agent | waypoint | controller -> mesh; agent -> native. Inside, what decides does no I/O.
module.exports = {
  forbidden: [
    { name: 'no-cycles', comment: 'a cycle means two files are one concept', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'native-is-the-bottom', severity: 'error', from: { path: '^native/' }, to: { path: '^(agent|waypoint|controller|mesh|cli|lab)/' } },
    { name: 'mesh-knows-no-process', severity: 'error', from: { path: '^mesh/' }, to: { path: '^(agent|waypoint|controller|cli|lab|native|daemonset)/' } },
    { name: 'http2-stands-alone', comment: 'settings, accounts and memory are parameters: waypoints use it without HBONE', severity: 'error', from: { path: '^mesh/http2/' }, to: { path: '^(mesh/hbone|agent)/' } },
    { name: 'what-decides-does-no-io', comment: 'decisions and translations are pure, so that they are tested by table and shown by why', severity: 'error', from: { path: '^(mesh/(model|policy|collections)|mesh/telemetry/(connection-record|access-line|traffic|baggage|forwarded)|agent/proxy/(decision|admission|connection-counts)|agent/enrolment/(facts|next-step|pod-cgroup)|agent/direct/local-routes|controller/(core|gateway-api|istio-api)|controller/provisioner/desired|waypoint/router)' }, to: { path: '^(node:)?(fs|http2?|https|tls|child_process|worker_threads|dgram|dns|timers)|^mesh/(hbone|http2|relay|xds/(client|server))|^native/' } },
    { name: 'proxy-knows-no-enrolment', comment: 'who enrols and who carries meet in agent.ts', severity: 'error', from: { path: '^agent/proxy/' }, to: { path: '^agent/(enrolment|cni|admin)/' } },
    { name: 'filters-know-messages-only', severity: 'error', from: { path: '^waypoint/filters/' }, to: { path: '^(mesh/(?!http/|result|model/http-routes)|waypoint/(?!filters))' } },
    { name: 'agent-stands-alone', severity: 'error', from: { path: '^agent/' }, to: { path: '^(waypoint|controller|cli|lab|daemonset)/' } },
    { name: 'controller-stands-alone', severity: 'error', from: { path: '^controller/' }, to: { path: '^(agent|waypoint|cli|lab|daemonset)/' } },
    { name: 'chart-is-rendered-by-itself', comment: 'what runs in a cluster never renders what installs it', severity: 'error', from: { path: '^daemonset/' }, to: { path: '^(agent|waypoint|controller|cli|lab|native)/' } },
    { name: 'waypoint-stands-alone', severity: 'error', from: { path: '^waypoint/' }, to: { path: '^(agent|controller|cli|lab|daemonset)/' } },
    // The lab's floors, from the ground up: machine; network; kubernetes/objects; services, kubelet, kubernetes/own, kubernetes/real beside one another; cluster; demo.
    { name: 'lab-machine-is-the-ground', severity: 'error', from: { path: '^lab/machine/' }, to: { path: '^(lab/(?!machine/)|agent/|controller/|waypoint/|cli/)' } },
    { name: 'lab-network-stands-on-machine', severity: 'error', from: { path: '^lab/network/' }, to: { path: '^(lab/(?!machine/|network/)|agent/|controller/|waypoint/|cli/)' } },
    { name: 'lab-objects-are-words', comment: 'the one vocabulary of everything in the lab that speaks of Kubernetes', severity: 'error', from: { path: '^lab/kubernetes/objects/' }, to: { path: '^(lab/(?!kubernetes/objects/)|agent/|controller/|waypoint/|cli/)' } },
    { name: 'lab-rooms-of-one-floor', comment: 'they meet in lab/cluster', severity: 'error', from: { path: '^lab/(services|kubelet|kubernetes/own|kubernetes/real)/' }, to: { path: '^(lab/(services|kubelet|kubernetes/own|kubernetes/real|cluster|demo)/|agent/|controller/|waypoint/|cli/)', pathNot: '^lab/$1/' } },
    { name: 'lab-real-stands-alone', comment: 'a real cluster has nothing of the lab but its tools', severity: 'error', from: { path: '^lab/real/' }, to: { path: '^(lab/(?!real/|machine/|network/addressing)|agent/|controller/|waypoint/|cli/)' } },
    { name: 'lab-api-server-runs-nothing', severity: 'error', from: { path: '^lab/kubernetes/own/apiserver/' }, to: { path: '^lab/(kubernetes/own/controllers|network|machine/(?!server-certificate))' } },
    { name: 'lab-cluster-knows-no-demo', severity: 'error', from: { path: '^lab/cluster/' }, to: { path: '^lab/(demo|samples)/' } },
  ],
  options: { tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, tsConfig: { fileName: 'tsconfig.json' }, enhancedResolveOptions: { extensions: ['.ts', '.js'] } },
}
