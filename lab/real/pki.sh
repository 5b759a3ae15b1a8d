#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The keys of a cluster, in the current directory: an authority, certificates and kubeconfigs of its parts.
# pki.sh SERVER SERVICE-IP NODE=IP[,IP]...
set -eu
umask 077
server=$1 service_ip=$2
shift 2

quietly() { "$@" 2>openssl.log || { cat openssl.log >&2; exit 1; }; }
new_key="ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

# shellcheck disable=SC2086 # words
quietly openssl req -x509 -newkey $new_key -keyout ca.key -out ca.crt -days 365 -subj /CN=ambit-cluster-ca
quietly openssl genrsa -out sa.key 2048
quietly openssl rsa -in sa.key -pubout -out sa.pub

# certificate NAME SUBJECT [ALTERNATIVE-NAMES]
certificate() {
  # shellcheck disable=SC2086 # words
  quietly openssl req -newkey $new_key -keyout "$1.key" -out "$1.csr" -subj "$2"
  { echo extendedKeyUsage=serverAuth,clientAuth; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
  quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out "$1.crt" -extfile "$1.ext"
  rm "$1.csr" "$1.ext"
}
# kubeconfig NAME: of who has that certificate
kubeconfig() {
  cat >"$1.conf" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: ambit, cluster: {server: "$server", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: ambit, context: {cluster: ambit, user: $1}}]
current-context: ambit
EOF
}

host=${server#https://}; host=${host%:*}
# IPv6 is in brackets there.
host=${host#\[}; host=${host%\]}
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
certificate apiserver /CN=kube-apiserver "$names,IP:$service_ip,IP:127.0.0.1,IP:$host"
certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
certificate admin /O=system:masters/CN=admin
certificate controller-manager /CN=system:kube-controller-manager
certificate scheduler /CN=system:kube-scheduler
certificate proxy /CN=system:kube-proxy
for part in admin controller-manager scheduler proxy; do kubeconfig "$part"; done
for node; do
  certificate "kubelet-${node%=*}" "/O=system:nodes/CN=system:node:${node%=*}" "DNS:${node%=*},IP:$(echo "${node#*=}" | sed 's/,/,IP:/')"
  kubeconfig "kubelet-${node%=*}"
done
rm -f openssl.log
