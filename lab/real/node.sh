#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of a node: makes its root, which is this machine's read through an overlay in memory, then runs the node's daemons
# and starts again those that end, as systemd would.
# Of its environment: NODE (its name), NODE_IPS, POD_RANGES, ALL_POD_RANGES and SERVICE_RANGES (each by commas, of one family or of both),
# DNS_SERVICE_IP, NETWORK (lab/real/layout.ts), DIRECTORY (its own), PROGRAMS, KUBERNETES, PKI and IMAGES (directories), DUTY (control-plane, or none).
set -eu
ip=${NODE_IPS%%,*}
. "$(dirname "$0")/node-root.sh"
. "$(dirname "$0")/node-config.sh"

# The old /proc is still that of the machine: there this process has the pid by which it is ended.
read -r pid _ </proc/self/stat
echo "$pid" >"$DIRECTORY/init.pid"
make_root
write_config
# This file's directory is the machine's, which the new root shows as well.
until ip -br address show eth0 2>/dev/null | grep -q "$ip/"; do sleep 0.1; done

# unit NAME COMMAND...: in a cgroup of its own, started again when it ends; its log is $DIRECTORY/logs/NAME.log.
unit() {
  unit=$1
  shift
  for hierarchy in $(hierarchies); do mkdir -p "$hierarchy/system.slice/$unit.service"; done
  (
    # The pid of this very shell, in its own namespace: $$ is its parent's.
    self=$(exec sh -c 'echo $PPID')
    for hierarchy in $(hierarchies); do echo "$self" >"$hierarchy/system.slice/$unit.service/cgroup.procs"; done
    while :; do
      "$@" >>"/var/log/$unit.log" 2>&1 || true
      echo "--- $unit ended, $(date +%T): it is started again" >>"/var/log/$unit.log"
      sleep 1
    done
  ) &
}

unit containerd containerd -c /etc/containerd/config.toml
until ctr version >/dev/null 2>&1; do sleep 0.2; done
for image in "$IMAGES"/*.tar; do ctr -n k8s.io images import "$image" >/dev/null; done

keys=/etc/kubernetes
if [ "$DUTY" = control-plane ]; then
  # In memory: a disk that syncs would be the slowest part of the cluster.
  unit etcd etcd --data-dir /run/etcd
  unit kube-apiserver kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=:: "--advertise-address=$ip" \
    --client-ca-file=$keys/ca.crt --tls-cert-file=$keys/apiserver.crt --tls-private-key-file=$keys/apiserver.key \
    --kubelet-client-certificate=$keys/apiserver-kubelet.crt --kubelet-client-key=$keys/apiserver-kubelet.key \
    --kubelet-certificate-authority=$keys/ca.crt --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=$keys/sa.pub --service-account-signing-key-file=$keys/sa.key \
    "--service-cluster-ip-range=$SERVICE_RANGES" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true --enable-aggregator-routing=true --profiling=false
  unit kube-controller-manager kube-controller-manager \
    --kubeconfig=$keys/controller-manager.conf --authentication-kubeconfig=$keys/controller-manager.conf \
    --authorization-kubeconfig=$keys/controller-manager.conf --service-account-private-key-file=$keys/sa.key \
    --root-ca-file=$keys/ca.crt --use-service-account-credentials=true --cluster-signing-cert-file=$keys/ca.crt \
    --cluster-signing-key-file=$keys/ca.key --bind-address=127.0.0.1
  unit kube-scheduler kube-scheduler --kubeconfig=$keys/scheduler.conf --authentication-kubeconfig=$keys/scheduler.conf \
    --authorization-kubeconfig=$keys/scheduler.conf --bind-address=127.0.0.1
fi
if [ "$NETWORK" = kube-router ]; then
  export NODE_NAME="$NODE" KUBE_ROUTER_CNI_CONF_FILE=/etc/cni/net.d/10-kuberouter.conflist
  unit kube-router kube-router --kubeconfig=$keys/admin.conf --run-router=true --run-firewall=true --run-service-proxy=false \
    "--service-cluster-ip-range=$SERVICE_RANGES"
fi
unit kube-proxy kube-proxy --config=$keys/proxy.yaml
unit kubelet kubelet --config=$keys/kubelet.yaml "--kubeconfig=$keys/kubelet-$NODE.conf" "--hostname-override=$NODE" "--node-ip=$NODE_IPS"

# Reaps what containers' shims leave to the first process.
while :; do wait || true; sleep 1; done
