# SPDX-License-Identifier: Apache-2.0
# Sourced by node.sh: the root of a node and its cgroups. In namespaces of its own, with no mount that propagates.

# Every mounted hierarchy of cgroups, as the node sees it.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts; }

make_root() {
  # A hierarchy a line: type, options, place. Read before the places are covered.
  cgroups=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $3, $4, $2 }' /proc/mounts)
  # pivot_root wants a private root; what a container mounts is shared from there on.
  mount -t tmpfs -o mode=755 ambit-node /mnt
  mkdir /mnt/upper /mnt/work /mnt/root
  mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
  root=/mnt/root
  mount -t proc proc $root/proc
  mount -t sysfs sys $root/sys
  mount --rbind /dev $root/dev
  mount -t tmpfs -o mode=755 run $root/run
  mount -t tmpfs -o mode=1777 tmp $root/tmp
  rm -rf $root/etc/cni $root/opt/cni
  mkdir -p $root/run/netns $root/opt/cni/bin $root/opt/ambit-cluster $root/opt/kubernetes $root/etc/cni/net.d $root/etc/kubernetes $root/etc/containerd
  mount --bind "$PROGRAMS" $root/opt/ambit-cluster
  mount --bind "$KUBERNETES" $root/opt/kubernetes
  for place in containerd kubelet; do
    mkdir -p "$DIRECTORY/$place" "$root/var/lib/$place"
    mount --bind "$DIRECTORY/$place" "$root/var/lib/$place"
  done
  mkdir -p "$DIRECTORY/logs"
  mount --bind "$DIRECTORY/logs" $root/var/log
  mkdir -p $root/var/log/pods
  # What changes below an overlay may never be seen through it.
  for place in "$DIRECTORY" "$IMAGES"; do
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
  done
  cp "$PKI"/* $root/etc/kubernetes/
  for plugin in bridge host-local loopback portmap ptp; do cp "$PROGRAMS/$plugin" $root/opt/cni/bin/; done
  mount -t bpf bpf $root/sys/fs/bpf
  mount_cgroups
  mount --make-rprivate $root
  cd $root
  mkdir -p old
  pivot_root . old
  umount -l /old
  cd /
  mount --make-rshared /
  export PATH=/opt/kubernetes:/opt/ambit-cluster:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  hostname "$NODE"
  echo "$NODE" >/etc/hostname
  echo "127.0.0.1 localhost $NODE" >/etc/hosts
  # Nobody answers there (RFC 5737): what a node needs it has.
  echo 'nameserver 192.0.2.53' >/etc/resolv.conf
  tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
  sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv6.conf.all.forwarding=1
}

# The machine's hierarchies, at the same places, from the node's cgroups on. Version 2 alone, version 1, or both.
mount_cgroups() {
  case $cgroups in "cgroup2 "*" /sys/fs/cgroup") ;; *) mount -t tmpfs -o mode=755 cgroup $root/sys/fs/cgroup ;; esac
  echo "$cgroups" | while read -r type options place; do
    [ -d "$root$place" ] || mkdir "$root$place"
    case $type in
      cgroup2) mount -t cgroup2 cgroup2 "$root$place" ;;
      *)
        controller=$(echo "$options" | tr , '\n' | grep -v -x -E 'r[ow]|nosuid|nodev|noexec|relatime|noatime' | paste -sd, -)
        case $controller in name=*) controller=none,$controller ;; esac
        mount -t cgroup -o "$controller" cgroup "$root$place"
        ;;
    esac
  done
  # Version 2 alone: a cgroup with processes of its own hands no controller on.
  if [ -e $root/sys/fs/cgroup/cgroup.controllers ]; then
    mkdir $root/sys/fs/cgroup/init.scope
    while read -r process; do echo "$process" >$root/sys/fs/cgroup/init.scope/cgroup.procs; done <$root/sys/fs/cgroup/cgroup.procs
    for controller in $(cat $root/sys/fs/cgroup/cgroup.controllers); do echo "+$controller" >$root/sys/fs/cgroup/cgroup.subtree_control; done
  fi
}
