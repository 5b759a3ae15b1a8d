# SPDX-License-Identifier: Apache-2.0
# Sourced by node.sh: what a node's daemons are told, in files.

write_config() {
  minor=$(kubelet --version | sed 's/.* v1\.\([0-9]*\)\..*/\1/')
  # What 1.31 brought: version 1 of cgroups is refused unless told, and nftables need no gate.
  if [ "$minor" -ge 31 ]; then cgroup_v1='failCgroupV1: false' gates='{}'; else cgroup_v1='' gates='{NFTablesProxyMode: true}'; fi
  write_network
  # A machine may be a container itself, which lowers no oom score.
  cat >/etc/containerd/config.toml <<EOF
version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:cluster"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "/opt/ambit-cluster/runc"
  SystemdCgroup = false
EOF
  cat >/etc/kubernetes/kubelet.yaml <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/kubelet-$NODE.crt
tlsPrivateKeyFile: /etc/kubernetes/kubelet-$NODE.key
cgroupDriver: cgroupfs
$cgroup_v1
failSwapOn: false
maxPods: 240
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: ["$DNS_SERVICE_IP"]
clusterDomain: cluster.local
address: "$ip"
healthzBindAddress: 127.0.0.1
makeIPTablesUtilChains: false
evictionHard: {memory.available: "50Mi", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
EOF
  cat >/etc/kubernetes/proxy.yaml <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
featureGates: $gates
clientConnection: {kubeconfig: /etc/kubernetes/proxy.conf}
hostnameOverride: $NODE
clusterCIDR: "$ALL_POD_RANGES"
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
EOF
}

# What a CNI's own installer would leave there.
write_network() {
  ranges=$(echo "$POD_RANGES" | sed 's/[^,]*/[{"subnet": "&"}]/g')
  routes=''
  case $POD_RANGES in *.*) routes='{"dst": "0.0.0.0/0"}' ;; esac
  case $POD_RANGES in *:*) routes="${routes:+$routes, }{\"dst\": \"::/0\"}" ;; esac
  case $NETWORK in
    bridge)
      cat >/etc/cni/net.d/10-pods.conflist <<EOF
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "ranges": [$ranges], "routes": [$routes]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
EOF
      ;;
    # The range of pods is written into it by kube-router, when it has read the node's object.
    kube-router)
      cat >/etc/cni/net.d/10-kuberouter.conflist <<EOF
{
  "cniVersion": "0.3.0",
  "name": "mynet",
  "plugins": [
    {"name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true, "hairpinMode": true, "ipam": {"type": "host-local"}},
    {"type": "portmap", "capabilities": {"snat": true, "portMappings": true}}
  ]
}
EOF
      ;;
  esac
}
