# Debian's cloud kernels, for tests/vm/run; sourced after tests/setup.sh.
# shellcheck shell=bash

VM=$PWD/build/vm

# The suite that has the kernel of this name; `newest` is what unstable has today.
suite_of() {
  case $1 in
    6.1) echo bookworm ;;
    6.12) echo trixie ;;
    newest) echo sid ;;
    *) return 1 ;;
  esac
}

# The Debian archive that this machine's apt is set to; all suites are in the same one.
debian_archive() {
  apt-get indextargets 'Created-By: Packages' --format "\$(ORIGIN) \$(RELEASE) \$(REPO_URI)" |
    sed -nE '/^Debian [^ ]*-security /d; s/^Debian [^ ]+ //p' | head -n 1
}

# Downloads a suite's cloud kernel as .deb files into a directory, with lists of packages of its own
# so that this machine's stay as they are. apt checks signature and checksums.
download_kernel() {
  local suite=$1 directory=$2 archive lists image parts
  archive=$(debian_archive)
  if [[ -z $archive ]]; then
    echo "apt knows no Debian archive here"
    return 1
  fi
  lists=$VM/apt/$suite
  mkdir -p "$directory" "$lists"/{state/lists,cache/archives}/partial
  : >"$lists/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main" \
    >"$lists/sources.list"
  local options=(-qq -o APT::Architecture=amd64 -o APT::Architectures=amd64
    -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Dir::State="$lists/state" -o Dir::State::status="$lists/status"
    -o Dir::Cache="$lists/cache" -o Dir::Etc::sourcelist="$lists/sources.list"
    -o Dir::Etc::sourceparts=/dev/null)
  if ! apt-get "${options[@]}" --error-on=any update >&2; then
    echo "apt cannot get or verify the lists of $suite"
    return 1
  fi
  # The metapackage names the newest; its modules may be a package apart.
  image=$(kernel_depends linux-image-cloud-amd64 | grep -E '^linux-image-[0-9]' | sort -V |
    tail -n 1)
  if [[ -z $image ]]; then
    echo "$suite has no cloud kernel"
    return 1
  fi
  parts=$(kernel_depends "$image" | grep -E '^linux-(base|binary|image|modules)-[0-9]' | sort -u)
  # shellcheck disable=SC2086  # one word each
  if ! (cd "$directory" && apt-get "${options[@]}" download "$image" $parts >&2); then
    echo "apt cannot download $image"
    return 1
  fi
}

# What a package depends on; with download_kernel's options.
kernel_depends() { apt-cache "${options[@]}" depends "$1" | sed -nE 's/^[ |]*Depends: //p'; }

# Puts the kernel of a name into build/vm/NAME/tree: once, since `newest` changes. Where it cannot
# be had, prints why and fails.
fetch_kernel() {
  local name=$1 tree=$VM/$1/tree package
  if [[ -d $tree ]]; then
    return
  fi
  rm -rf "${VM:?}/$name"
  say "downloading kernel $name"
  download_kernel "$(suite_of "$name")" "$VM/$name/packages" || return
  # Some have /lib, some /usr/lib: one and the same here.
  mkdir -p "$tree.partial/usr/lib"
  ln -s usr/lib "$tree.partial/lib"
  for package in "$VM/$name"/packages/*.deb; do
    dpkg-deb -x "$package" "$tree.partial" || return
  done
  depmod -b "$tree.partial" "$(kernel_release "$tree.partial")" && mv "$tree.partial" "$tree"
}

# "6.1.0-41-cloud-amd64", of an unpacked kernel.
kernel_release() { ls "$1/lib/modules"; }

# The file to boot: in /boot until Debian 13, beside the modules since.
kernel_file() {
  local file=$1/boot/vmlinuz-$2
  if [[ -e $file ]]; then
    echo "$file"
  else
    echo "$1/lib/modules/$2/vmlinuz"
  fi
}

# Makes an initramfs of busybox, tests/vm/init, what it takes to mount the disks, and the files
# given.
make_initramfs() {
  local tree=$1 image=$2 release root file module
  shift 2
  release=$(kernel_release "$tree")
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,modules,root}
  cp /usr/bin/busybox "$root/bin/"
  cp tests/vm/init "$root/init"
  cp "$@" "$root/"
  # modprobe lists them in the order in which they go in; what is built in has no file.
  modprobe -d "$tree" -S "$release" --show-depends --all virtio_pci virtio_blk ext4 |
    sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | while read -r file; do
    module=$(basename "$file" | sed 's/\.ko.*/.ko/')
    case $file in
      *.xz) xz -dc "$file" ;;
      *.zst) zstd -qdc "$file" ;;
      *) cat "$file" ;;
    esac >"$root/modules/$module"
    echo "$module" >>"$root/modules/order"
  done
  (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$image"
  rm -rf "$root"
}
