# What tests/run and bench/run share; sourced, not run. Leaves the caller in the project's root.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
umask 022  # what is built is run by other users, too

# What it takes to build everything. Names are those of Debian 12 and Ubuntu 24.04.
# shellcheck disable=SC2034  # used by whoever sources this
BUILD_PACKAGES=(g++ cmake ninja-build pkg-config
  libabsl-dev libbenchmark-dev libboost-dev libcli11-dev libcurl4-openssl-dev libfmt-dev
  libgmock-dev libgtest-dev
  liburing-dev libseccomp-dev libsqlite3-dev libtomlplusplus-dev nlohmann-json3-dev)

# What the report is made with, and what its tests look at it with.
# shellcheck disable=SC2034
REPORT_PACKAGES=(python3 python3-jinja2 python3-matplotlib zstd)
# shellcheck disable=SC2034
BROWSER_PACKAGES=(chromium chromium-driver)

# What the functions' tests call them with and hold their answers against.
# shellcheck disable=SC2034
FUNCTION_PACKAGES=(cmark curl haproxy nginx openapi-specification python3-jsonschema python3-pil)

# The programs that brood is compared with, as far as Debian 12 has them, and what they need.
# shellcheck disable=SC2034
PEER_PACKAGES=(bubblewrap busybox-static crun docker.io firejail podman runc systemd-container
  util-linux)

# Who calls functions, and stands before them, in the benchmarks.
# shellcheck disable=SC2034
CLIENT_PACKAGES=(curl nginx python3 wrk)

say() { echo "${0##*/}: $*" >&2; }

die() {
  say "$*"
  exit 1
}

# Whether everybody can reach a path: other users, and isolates, which have ids of their own and a
# /tmp, /run and /dev of their own.
everybody_can_reach() {
  local path
  path=$(realpath "$1")
  case $path/ in
    /tmp/* | /run/* | /dev/* | /proc/* | /sys/*) return 1 ;;
  esac
  while [[ $path != / ]]; do
    (((0$(stat -c %a "$path") & 1) != 0)) || return 1
    path=$(dirname "$path")
  done
}

# Does nothing where everybody can reach this clone. Elsewhere it goes on in a copy that they can
# reach, with the script that called and its arguments: what is built is run by other users and by
# isolates.
go_where_everybody_can_reach() {
  if everybody_can_reach "$PWD"; then
    return
  fi
  local script=${1#"$PWD"/} place=/var/cache/brood
  shift
  if ((EUID != 0)); then
    place=/var/tmp/brood-$EUID
  fi
  mkdir -p -m 755 "$place"
  if [[ ! -O $place || -L $place ]] || ! everybody_can_reach "$place"; then
    die "$PWD is closed to others, and so is $place, or somebody else's: clone to /opt or /srv"
  fi
  place+=/$(cksum <<<"$PWD" | cut -d ' ' -f 1)
  say "isolates and other users cannot reach $PWD: building a copy of it in $place"
  mkdir -p -m 755 "$place"
  find "$place" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
  tar --exclude=./build --exclude=./.git --mode=a+rX -cf - . | tar -C "$place" -xpf -
  if [[ -e .git ]]; then  # closed, as it is here: its configuration may hold somebody's password
    tar --mode=go= -cf - .git | tar -C "$place" -xpf -
  fi
  if [[ $script == bench/run ]]; then  # what it measures is to be found here
    rm -rf "$place/results"
    ln -s "$PWD/results" "$place/results"
  fi
  if [[ ! -d build || -L build ]]; then
    ln -sfn "$place/build" build
  fi
  exec "$place/$script" "$@"
}

# Prints those of the packages that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      echo "$package"
    fi
  done
}

# Installs what is missing of the packages, where that is allowed; otherwise says how, and exits.
install_packages() {
  local missing as_root=()
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian or Ubuntu machine: taking it that these are installed: $*"
    return
  fi
  mapfile -t missing < <(missing_packages "$@")
  if ((${#missing[@]} == 0)); then
    return
  fi
  if ((EUID != 0)); then
    if ! sudo -n true 2>/dev/null; then
      die "packages are missing; install them with: sudo apt-get install -y ${missing[*]}"
    fi
    as_root=(sudo -n)
  fi

  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq
    -o DPkg::Lock::Timeout=300)
  local install=("${apt[@]}" -o Dpkg::Use-Pty=0 install -y --no-install-recommends
    "${missing[@]}")
  say "installing ${missing[*]}"
  # A machine whose package lists are absent or out of date needs them first.
  if ! apt-cache show "${missing[@]}" >/dev/null 2>&1 || ! "${install[@]}" >/dev/null; then
    "${apt[@]}" update >/dev/null
    "${install[@]}" >/dev/null
  fi
}

# Reads ninja's output with the status "@FINISHED TOTAL SECONDS " and says how far it is: on a
# terminal in one line, else once a minute. What the compiler says is passed on.
show_progress() {
  local what=$1 line done total seconds text next=0
  while IFS= read -r line; do
    if [[ $line != @* ]]; then
      if [[ -t 1 ]]; then printf '\r\033[K'; fi
      echo "$line"
      continue
    fi
    read -r done total seconds _ <<<"${line#@}"
    seconds=${seconds%.*}
    text="$what: $done of $total steps"
    if ((done > 2 && done < total)); then
      text+=", about $((seconds * (total - done) / done / 60 + 1)) min to go"
    fi
    if [[ -t 1 ]]; then
      printf '\r%s\033[K' "$text"
      if ((done == total)); then echo; fi
    elif ((done == total || seconds >= next)); then
      echo "$text"
      next=$((seconds + 60))
    fi
  done
}

# Configures and builds a preset; further arguments are targets (default: all).
build() {
  local preset=$1 targets=()
  shift
  if (($# > 0)); then
    targets=(--target "$@")
  fi
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
  fi
  cmake --preset "$preset" >/dev/null
  NINJA_STATUS="@%f %t %e " cmake --build --preset "$preset" --parallel "$(nproc)" \
    "${targets[@]}" 2>&1 | show_progress "building $preset" >&2
}

# Where apt gets this machine's release, as lines for sources.list: the distribution's own archives,
# nobody else's.
release_sources() {
  local codename
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets 'Created-By: Packages' \
    --format "\$(ORIGIN) \$(RELEASE) deb \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" |
    sed -nE "s/^(Debian|Ubuntu) $codename(-updates|-security)? //p"
}

# Makes a small tree of this machine's distribution with the packages in it, unless it is there.
make_tree() {
  local tree=$1 codename sources
  shift
  if [[ -d $tree ]]; then
    return
  fi
  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && echo "$VERSION_CODENAME")
  sources=$(release_sources)
  if [[ -z $sources ]]; then
    say "apt knows no archive of $codename; apt-get update may help"
    return 1
  fi
  say "making $tree (about a minute, once)"
  rm -rf "$tree.partial"
  mkdir -p "${tree%/*}"
  # In mounts of its own: a daemon that starts meanwhile takes the machine's, and would keep those
  # that mmdebstrap makes and takes away again.
  unshare --mount mmdebstrap --quiet --variant=minbase --include="$(IFS=, && echo "$*")" \
    "$codename" "$tree.partial" - <<<"$sources" >&2 && mv "$tree.partial" "$tree"
}

# The tree that tests run programs in.
# shellcheck disable=SC2034
ROOTFS=$PWD/build/rootfs/debian
make_rootfs() { make_tree "$ROOTFS" busybox-static procps python3-minimal; }
