#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs test files on another kernel than this machine's: in a virtual machine (QEMU, no KVM needed) whose root is this
# machine's file system, with all changes kept in memory. Never part of npm test. Needs qemu-system-x86, busybox-static, kmod.
# Usage: scripts/test-kernel.sh DIRECTORY TEST...
#   DIRECTORY holds one kernel, as `dpkg-deb -x` unpacks linux-image-VERSION and, on Ubuntu, linux-modules-VERSION.
#   e.g. apt-get download linux-image-6.1.0-55-amd64; dpkg-deb -x linux-image-*.deb /tmp/linux-6.1
#        sh scripts/test-kernel.sh /tmp/linux-6.1 test/capture/outbound.test.ts
set -eu
cd "$(dirname "$0")/.."
die() { printf 'test-kernel: %s\n' "$*" >&2; exit 2; }
[ $# -ge 2 ] || die "usage: scripts/test-kernel.sh DIRECTORY TEST..."
kernel=$(cd "$1" && pwd); shift
for tool in qemu-system-x86_64 busybox modprobe cpio; do
  command -v "$tool" >/dev/null || die "$tool is missing: apt-get install qemu-system-x86 busybox-static kmod cpio"
done
image=$(find "$kernel/boot" -name 'vmlinuz-*' | head -n 1)
[ -n "$image" ] || die "$kernel/boot has no vmlinuz: unpack a kernel package there by dpkg-deb -x"
version=${image##*/vmlinuz-}
[ -d "$kernel/lib/modules/$version" ] || die "$kernel/lib/modules/$version is missing: unpack linux-modules-$version there too"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
depmod -b "$kernel" "$version"

# A first file system with just what it takes to reach this machine's: busybox and the modules of 9p and overlay.
mkdir -p "$work/initramfs/bin" "$work/initramfs/proc" "$work/initramfs/modules"
cp "$(command -v busybox)" "$work/initramfs/bin/busybox"
order=
for module in virtio_pci 9pnet_virtio 9p overlay; do
  for file in $(modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod //p'); do
    name=${file##*/}
    case " $order " in *" $name "*) continue ;; esac
    cp "$file" "$work/initramfs/modules/"; order="$order $name"
  done
done
cat >"$work/initramfs/init" <<INIT
#!/bin/busybox sh
/bin/busybox mkdir -p /lower /modules-share /memory /root
for module in $order; do /bin/busybox insmod /modules/\$module || echo "insmod \$module failed"; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /lower
/bin/busybox mount -t tmpfs memory /memory
/bin/busybox mkdir -p /memory/upper /memory/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /root
/bin/busybox mkdir -p /root/lib/modules
/bin/busybox mount -t tmpfs modules /root/lib/modules
/bin/busybox mkdir /root/lib/modules/$version
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 modules /root/lib/modules/$version
exec /bin/busybox switch_root /root /bin/sh $PWD/scripts/test-kernel-guest.sh "\$@"
INIT
chmod 755 "$work/initramfs/init"
(cd "$work/initramfs" && find . | cpio -o -H newc --quiet | gzip -1 >"$work/initramfs.gz")

mkdir "$work/out"
printf '%s\n' "$@" >"$work/out/tests"
status=0
# Without protection keys: V8 uses them, and emulated they fail it now and then.
qemu-system-x86_64 -accel tcg,thread=multi -M pc -cpu max,-pku -smp 2 -m 6G -nographic -no-reboot \
  -kernel "$image" -initrd "$work/initramfs.gz" \
  -append "console=ttyS0 quiet panic=1 mitigations=off" \
  -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
  -virtfs "local,path=$kernel/lib/modules/$version,mount_tag=modules,security_model=none,readonly=on" \
  -virtfs "local,path=$work/out,mount_tag=out,security_model=none" </dev/null | sed -u -n 's/\r//g; s/^.*test-kernel: /test-kernel: /; /test-kernel: /,$p' || status=$?
[ -e "$work/out/status" ] || die "the virtual machine ended before the tests did"
exit "$(cat "$work/out/status")"
