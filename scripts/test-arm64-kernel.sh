#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs test files on a kernel of arm64, eBPF included: in an emulated machine whose root is the arm64 image with Debian's tools beside it, and
# the working copy; all changes are kept in memory. Slow: a minute or more until the first test. Never part of npm test. Needs Debian's
# packages qemu-system-arm kmod cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross. Tests that compile eBPF by themselves miss clang there.
# Usage: scripts/test-arm64-kernel.sh DIRECTORY TEST...
#   DIRECTORY holds one kernel, as `dpkg-deb -x` unpacks linux-image-VERSION-arm64 (apt-get download by the lists of the first run, below).
#   e.g. sh scripts/test-arm64-kernel.sh /tmp/linux-6.1-arm64 test/capture/lookup-program.test.ts
set -eu
cd "$(dirname "$0")/.."
die() { printf 'test-arm64-kernel: %s\n' "$*" >&2; exit 2; }
[ $# -ge 2 ] || die 'usage: scripts/test-arm64-kernel.sh DIRECTORY TEST...'
kernel=$(cd "$1" && pwd); shift
for tool in qemu-system-aarch64 modprobe depmod cpio aarch64-linux-gnu-gcc; do
  command -v "$tool" >/dev/null || die "$tool is missing: apt-get install qemu-system-arm kmod cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
done
image=$(find "$kernel/boot" -name 'vmlinuz-*' | head -n 1)
[ -n "$image" ] || die "$kernel/boot has no vmlinuz: unpack a kernel package there by dpkg-deb -x"
version=${image##*/vmlinuz-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The image's root file system, and what tests call besides; AMBIT_ARM64_MACHINE names one that is made already.
root=${AMBIT_ARM64_MACHINE:-$work/root}
if [ ! -x "$root/usr/bin/node" ]; then
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/ambit/image
  sh scripts/image.sh --arch arm64 --root "$root" --cache "$cache"
  mkdir -p "$work/debs/partial"
  lists=$cache/apt-arm64
  apt-get -qq -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::lists="$lists/lists" -o Dir::Cache="$lists/cache" \
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -o Dir::Cache::archives="$work/debs" --no-install-recommends --download-only \
    install iproute2 kmod nftables util-linux mount procps bash coreutils sed grep >/dev/null
  for file in "$work"/debs/*.deb; do dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C "$root"; done
  ln -sf bash "$root/usr/bin/sh"
  printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
fi

mkdir -p "$work/initramfs/bin" "$work/initramfs/proc" "$work/initramfs/modules" "$work/tree/native/build" "$work/tree/node_modules/.bin" "$work/out"
cp "$root"/opt/ambit/native/build/* "$work/tree/native/build/"
ln -s /usr/bin/node "$work/tree/node_modules/.bin/node"
for package in "$root"/opt/ambit/node_modules/@*/*-arm64; do
  to=$work/tree/node_modules/${package#"$root"/opt/ambit/node_modules/}
  mkdir -p "${to%/*}" && cp -r "$package" "$to"
done

# A first file system with just what it takes to reach the others: busybox, and the modules of 9p and overlay.
depmod -b "$kernel" "$version"
cp "$root/usr/bin/busybox" "$work/initramfs/bin/busybox"
order=
for module in virtio_pci 9pnet_virtio 9p overlay; do
  for file in $(modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod //p'); do
    name=${file##*/}
    case " $order " in *" $name "*) continue ;; esac
    cp "$file" "$work/initramfs/modules/"; order="$order $name"
  done
done
reach() { echo "/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 $1 $2"; }
cat >"$work/initramfs/init" <<INIT
#!/bin/busybox sh
/bin/busybox mkdir -p /lower /tree /copy /memory /root
for module in $order; do /bin/busybox insmod /modules/\$module || echo "insmod \$module failed"; done
$(reach root /lower)
$(reach copy /copy)
$(reach tree /tree)
/bin/busybox mount -t tmpfs memory /memory
/bin/busybox mkdir -p /memory/root /memory/root-work /memory/copy /memory/copy-work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/memory/root,workdir=/memory/root-work overlay /root
/bin/busybox mkdir -p /root/lib/modules /root$PWD
/bin/busybox mount -t overlay -o lowerdir=/tree:/copy,upperdir=/memory/copy,workdir=/memory/copy-work overlay /root$PWD
/bin/busybox mount -t tmpfs modules /root/lib/modules
/bin/busybox mkdir /root/lib/modules/$version
$(reach modules "/root/lib/modules/$version")
exec /bin/busybox switch_root /root /bin/sh $PWD/scripts/test-kernel-guest.sh "\$@"
INIT
chmod 755 "$work/initramfs/init"
(cd "$work/initramfs" && find . | cpio -o -H newc --quiet | gzip -1 >"$work/initramfs.gz")

printf '%s\n' "$@" >"$work/out/tests"
share() { echo "-virtfs local,path=$1,mount_tag=$2,security_model=none,multidevs=remap"; }
# shellcheck disable=SC2046 # one word per part is the point
qemu-system-aarch64 -accel tcg,thread=multi -M virt -cpu max,pauth-impdef=on -smp 2 -m 4G -nic none -nographic -no-reboot \
  -kernel "$image" -initrd "$work/initramfs.gz" -append "console=ttyAMA0 quiet panic=1 mitigations=off" \
  $(share "$root" root),readonly=on $(share "$PWD" copy),readonly=on $(share "$work/tree" tree),readonly=on \
  $(share "$kernel/lib/modules/$version" modules),readonly=on $(share "$work/out" out) </dev/null |
  sed -u -n 's/\r//g; s/^.*test-kernel: /test-kernel: /; /test-kernel: /,$p'
[ -e "$work/out/status" ] || die 'the machine ended before the tests did'
exit "$(cat "$work/out/status")"
