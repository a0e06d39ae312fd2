# SPDX-License-Identifier: Apache-2.0
# What quickstart, verify and the other scripts share; sourced, not run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$root/node_modules/.bin:$PATH:/usr/local/go/bin:/usr/sbin:/sbin"

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# step TITLE COMMAND...: runs it and says how long it took. Never inside a condition: there bash ignores failures.
step() {
  local begin end
  current=$1
  shift
  say "── $current"
  begin=$(date +%s%N)
  "$@"
  end=$(date +%s%N)
  say "── $current: $(((end - begin) / 1000000)) ms"
  current=
}
current=
registry_pid=
finish() {
  local code=$?
  [ -z "$registry_pid" ] || kill "$registry_pid"
  [ -z "$current" ] || printf '── %s: failed (exit code %s)\n' "$current" "$code" >&2
}
trap finish EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# need_packages NAME...: Debian packages that are not installed yet
need_packages() {
  local missing=()
  for name; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || { say "   all there"; return; }
  say "   installing ${missing[*]}"
  as_root apt-get update -q >/dev/null
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

# Debian's node and npm do to install node@24, which everything here then runs on.
need_npm() { command -v npm >/dev/null || need_packages nodejs npm; }

need_node_modules() {
  need_npm
  local stamp=$root/node_modules/.installed-for
  if ! cmp -s "$root/package-lock.json" "$stamp"; then
    (cd "$root" && npm ci --silent --no-audit --no-fund)
    cp "$root/package-lock.json" "$stamp"
  fi
  say "   node $(node --version)"
}

# Go as go.mod asks for it. From 1.21 on the go command gets the right toolchain itself; Debian 12's older one can
# at least download it as the module that it is.
need_go() {
  local wanted version
  wanted=$(sed -n 's/^go //p' "$root/guest/go.mod")
  version=$(go env GOVERSION 2>/dev/null || true)
  if ! printf 'go1.21\n%s\n' "$version" | sort -CV || [ -z "$version" ]; then
    need_packages golang-go
    local module="golang.org/toolchain@v0.0.1-go$wanted.linux-$(dpkg --print-architecture)" dir
    dir=$(cd / && /usr/lib/go/bin/go mod download -json "$module" |
      sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [ -d "$dir" ] || die "cannot get Go $wanted: install it from your distribution"
    chmod -R u+w "$dir"
    chmod 755 "$dir"/bin/* "$dir"/pkg/tool/*/*
    export PATH="$dir/bin:$PATH"
  fi
  (cd "$root/guest" && say "   $(go version)")
}

build_guest() { (cd "$root" && npm run --silent guest:build); }
fetch_runtime() { (cd "$root" && npm run --silent runtime:fetch); }
build_package() { (cd "$root" && npm run --silent build); }

# What it takes to run VMs from a checkout, and what it takes to make images for them.
RUN_PACKAGES=(qemu-system-x86 util-linux)
IMAGE_PACKAGES=(mmdebstrap umoci skopeo docker-registry curl ca-certificates)

# start_registry DIRECTORY: Debian's own registry on a free loopback port; sets registry (address) and registry_pid
start_registry() {
  local dir=$1 port
  mkdir -p "$dir"
  port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
  registry=127.0.0.1:$port
  cat >"$dir/config.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "$dir/data"}, delete: {enabled: true}}
http: {addr: "$registry"}
EOF
  docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 &
  registry_pid=$!
  curl -fs --retry 50 --retry-delay 0 --retry-connrefused --retry-max-time 20 -o /dev/null "http://$registry/v2/" ||
    die "the registry does not answer: $(tail -n 3 "$dir/log")"
}
