// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/peer.h"

namespace brood::bench {
namespace {

constexpr char kUnshareScript[] =
    "mount --bind ROOTFS ROOTFS && mount -o remount,bind,ro ROOTFS && "
    "mount -t proc proc ROOTFS/proc && mount -t tmpfs tmpfs ROOTFS/tmp && ifconfig lo up && "
    "exec chroot ROOTFS /bin/brood-true";

// runc and crun have no filter unless config.json brings one.
constexpr char kOciIsolation[] =
    "All namespaces but time, the ids mapped to 65,536 others, a cgroup of its own in every "
    "hierarchy, read-only root, own /proc with /proc/sys read-only, /dev and /tmp, no "
    "capabilities, no_new_privs, loopback only; no seccomp filter (config.json names none, as that "
    "of `spec`).";

Words Podman(const Words& more) {
  Words words = {"podman",
                 "--root",
                 "SCRATCH/podman/root",
                 "--runroot",
                 "SCRATCH/podman/run",
                 "--tmpdir",
                 "SCRATCH/podman/tmp",
                 "--storage-driver",
                 "vfs",
                 "--cgroup-manager",
                 "cgroupfs",
                 "--events-backend",
                 "none",
                 "--runtime",
                 "runc"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words Docker(const Words& more) {
  Words words = {"docker", "--host", "unix://SCRATCH/docker.sock"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The storage driver needs no overlay file system below it, and nothing touches the machine's own
// firewall and bridges.
const Words kDockerd = {"dockerd",
                        "--host",
                        "unix://SCRATCH/docker.sock",
                        "--data-root",
                        "SCRATCH/docker/data",
                        "--exec-root",
                        "SCRATCH/docker/exec",
                        "--pidfile",
                        "SCRATCH/docker/pid",
                        "--storage-driver",
                        "vfs",
                        "--iptables=false",
                        "--ip6tables=false",
                        "--bridge=none"};

constexpr char kBroodIsolation[] =
    "All eight namespaces, host ids that nobody else has, a cgroup that it is born in, read-only "
    "root, own /proc with parts covered, /dev, /dev/shm and /tmp, no capabilities, no_new_privs, "
    "about Docker's seccomp filter, loopback only.";

// clang-format off
std::vector<Peer> MakePeers() {
  return {
      {.name = kPeerFloor,
       .argv = {"PAYLOAD"},
       .isolation = "None: the payload itself, started as all of these are.",
       .version = {}},

      {.name = "brood-run",
       .argv = {"brood", "run", "--rootfs", "ROOTFS", "--", kInside},
       .isolation = kBroodIsolation,
       .version = {"version"},
       .cgroups = {"brood"}},

      {.name = "brood-submit",
       .argv = {"brood", "submit", "--socket", "SCRATCH/brood.sock", "--", kInside},
       .isolation = std::string(kBroodIsolation) + " The worker stands ready in a running daemon.",
       .version = {"version"},
       .service = {"brood", "serve", "--socket", "SCRATCH/brood.sock",
                   "--template", "peer=--rootfs ROOTFS --parked 16"},
       .socket = "SCRATCH/brood.sock",
       .cgroups = {"brood"}},

      {.name = "bubblewrap",
       .argv = {"bwrap", "--unshare-all", "--as-pid-1", "--ro-bind", "ROOTFS", "/", "--proc",
                "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", kInside},
       .isolation = "All namespaces but time, one id mapped, read-only root, own /proc, /dev and "
                    "/tmp, no capabilities, no_new_privs, loopback only; no cgroup, no seccomp "
                    "filter.",
       .package = "bubblewrap"},

      {.name = "bubblewrap-bare",
       .argv = {"bwrap", "--unshare-all", "--as-pid-1", "--ro-bind", "ROOTFS", "/", "--proc",
                "/proc", "--tmpfs", "/tmp", "--cap-drop", "ALL", kInside},
       .isolation = "As bubblewrap, without /dev.",
       .package = "bubblewrap",
       .version = {}},

      {.name = "nsjail",
       .argv = {"nsjail", "--mode", "o", "--really_quiet", "--chroot", "ROOTFS", "--tmpfsmount",
                "/tmp", "--", kInside},
       .isolation = "All namespaces but time, one id mapped, read-only root, own /proc (read-only) "
                    "and /tmp, no capabilities, no_new_privs, rlimits, loopback only; no cgroup, no "
                    "seccomp filter.",
       .version = {}},

      {.name = "minijail",
       .argv = {"minijail0", "-T", "static", "-p", "-I", "-v", "-r", "-t", "-l", "-e", "-N", "--uts",
                "-n", "-c", "0", "-P", "ROOTFS", kInside},
       .isolation = "Mount, pid, net, ipc, uts and cgroup namespaces, own read-only /proc and /tmp, "
                    "no capabilities, no_new_privs, loopback only; no user and no time namespace, "
                    "root writable, no cgroup, no seccomp filter.",
       .version = {}},

      {.name = "isolate",
       .argv = {"isolate", "--silent", "--no-default-dirs", "--dir=bin=ROOTFS/bin", "--dir=box=./box:rw",
                "--dir=proc=proc:fs", "--dir=tmp:tmp", "--run", "--", kInside},
       .isolation = "Mount, pid, net and ipc namespaces, an unprivileged id of its own, a root put "
                    "together of binds, own /proc and /tmp, no capabilities, rlimits; no user, uts, "
                    "cgroup and time namespace, no seccomp filter, no cgroup without --cg.",
       .set_up = {{"isolate", "--init"}},
       .tear_down = {{"isolate", "--cleanup"}}},

      {.name = "crun",
       .argv = {"crun", "--root", "SCRATCH/crun", "run", "--bundle", "BUNDLE", kPeerMark},
       .isolation = kOciIsolation,
       .package = "crun",
       .bundle = true,
       .state = {"SCRATCH/crun"},
       .cgroups = {kPeerMark}},

      {.name = "runc",
       .argv = {"runc", "--root", "SCRATCH/runc", "run", "--bundle", "BUNDLE", kPeerMark},
       .isolation = kOciIsolation,
       .package = "runc",
       .bundle = true,
       .state = {"SCRATCH/runc"},
       .cgroups = {kPeerMark}},

      {.name = "unshare",
       .argv = {"unshare", "--user", "--map-root-user", "--mount", "--uts", "--ipc", "--net",
                "--pid", "--cgroup", "--time", "--fork", "--kill-child",
                "ROOTFS/bin/busybox", "sh", "-c", kUnshareScript},
       .isolation = "All eight namespaces, one id mapped, read-only root by chroot, own /proc and "
                    "/tmp, loopback only; all capabilities in its user namespace, no no_new_privs, "
                    "no cgroup, no seccomp filter, no /dev.",
       .package = "util-linux"},

      {.name = "firejail",
       .argv = {"firejail", "--quiet", "--noprofile", "--net=none", "--ipc-namespace",
                "--private-tmp", "--private-dev", "--read-only=/", "--caps.drop=all",
                "--nonewprivs", "--seccomp", "--", "PAYLOAD"},
       .isolation = "Mount, pid, net, ipc and uts namespaces on the machine's own tree, read-only "
                    "(Debian's firejail refuses --chroot), own /proc, /dev and /tmp, no "
                    "capabilities, no_new_privs, its seccomp filter, loopback only; no user, cgroup "
                    "and time namespace, no cgroup.",
       .package = "firejail",
       .state = {"/run/firejail"}},

      {.name = "systemd-nspawn",
       .argv = {"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--read-only",
                "--private-network", "--private-users=1879048192:65536",
                "--private-users-ownership=map", "--console=pipe", "--timezone=off",
                "--resolv-conf=off", "--link-journal=no", "--drop-capability=all",
                "--no-new-privileges=yes", "--tmpfs=/tmp", "--directory=ROOTFS", kInside},
       .isolation = "All namespaces but time, ids mapped to 65,536 others, read-only root, own "
                    "/proc, /sys, /dev, /run and /tmp, no capabilities, no_new_privs, its seccomp "
                    "filter, loopback only; no cgroup limits.",
       .package = "systemd-container",
       .state = {"/run/systemd/nspawn"},
       .cgroups = {"payload", "supervisor"}},

      {.name = "podman",
       .argv = Podman({"run", "--rm", "--read-only", "--network", "none", "--cap-drop", "all",
                       "--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024",
                       "--ulimit", "nproc=1024:1024", kPeerMark, kInside}),
       .isolation = "Mount, pid, net, ipc and uts namespaces, a cgroup of its own in every "
                    "hierarchy, read-only root (copied: vfs), own /proc, /dev, /run and /tmp, no "
                    "capabilities, no_new_privs, its seccomp filter, loopback only; no user and no "
                    "time namespace.",
       .package = "podman",
       .set_up = {Podman({"import", "--quiet", "SCRATCH/rootfs.tar", kPeerMark})},
       .state = {"SCRATCH/podman"},
       .cgroups = {"libpod_parent"},
       .iterations = 4,
       .warm_ups = 1,
       .every = 3},

      {.name = "docker",
       .argv = Docker({"run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL",
                       "--security-opt", "no-new-privileges", "--tmpfs", "/tmp", kPeerMark,
                       kInside}),
       .isolation = "Mount, pid, net, ipc and uts namespaces, a cgroup of its own in every "
                    "hierarchy, read-only root (copied: vfs), own /proc, /dev and /tmp, no "
                    "capabilities, no_new_privs, its seccomp filter, loopback only; no user and no "
                    "time namespace. By a running daemon, that of a private dockerd.",
       .package = "docker.io",
       .set_up = {Docker({"import", "SCRATCH/rootfs.tar", kPeerMark})},
       .service = kDockerd,
       .socket = "SCRATCH/docker.sock",
       .state = {"SCRATCH/docker/data/containers", "SCRATCH/docker/data/vfs",
                 "SCRATCH/docker/exec"},
       .cgroups = {"docker"},
       .iterations = 4,
       .warm_ups = 1,
       .every = 3},
  };
}
// clang-format on

}  // namespace

const std::vector<Peer>& Peers() {
  static const std::vector<Peer> peers = MakePeers();
  return peers;
}

}  // namespace brood::bench
