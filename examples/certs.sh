#!/bin/bash
# certs.sh [DIRECTORY]: makes the certificates that edge.yaml and mtls.yaml name: an authority (ca.pem), and what
# it issued to a server (server.pem, server.key: localhost, app.test) and to a client (client.pem, client.key: client.test).
# For trying out only; a month long. Default: /tmp/skiff-certs.
set -euo pipefail
folder=${1:-/tmp/skiff-certs}
mkdir -p "$folder"
cd "$folder"
quietly() { "$@" 2>openssl.log || { cat openssl.log >&2; exit 1; }; }
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
quietly openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 30 -subj "/CN=authority for trying out"
issue() { # NAME SUBJECT-ALT-NAMES
    quietly openssl req "${key[@]}" -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    quietly openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out "$1.pem" \
        -extfile <(echo "subjectAltName=$2")
}
issue server DNS:localhost,DNS:app.test,IP:127.0.0.1
issue client DNS:client.test
rm -f openssl.log ./*.csr ./*.srl
echo "made in $folder:" ./*.pem ./*.key
