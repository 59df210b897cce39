// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/host/user_database.h"

namespace brood {
namespace {

// Whether whoever listens where this socket is connected to has ended. What io_uring watched for a
// process that was killed is let go of only after its end, by a worker of the kernel's, and until
// then the listening socket takes connections.
bool ListenerIsDead(int connected) {
  ucred listener{};
  socklen_t length = sizeof(listener);
  if (getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0) return false;
  if (listener.pid <= 0) return false;  // of another pid namespace
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, listener.pid, 0)));
  if (!pidfd.valid()) return errno == ESRCH;
  pollfd ended{pidfd.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 1;
}

void Refuse(Connection& connection, const absl::Status& why) {
  (void)connection.Send(0,
                        Refusal{static_cast<std::int32_t>(why.code()), std::string(Message(why))});
}

}  // namespace

absl::StatusOr<ListeningSocket> ListeningSocket::Bind(const std::string& path,
                                                      const std::optional<std::string>& group) {
  ListeningSocket out;
  if (group) {
    BROOD_ASSIGN_OR_RETURN(out.group_, UserDatabase().FindGroup(*group));
  }
  BROOD_ASSIGN_OR_RETURN(const sockaddr_un address, SocketAddress(path));
  const auto* name = reinterpret_cast<const sockaddr*>(&address);

  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return ErrnoError(errno, "making a socket");
  const int refused = connect(probe.get(), name, sizeof(address)) == 0 ? 0 : errno;
  if (refused == 0 && !ListenerIsDead(probe.get())) {
    return Error(absl::StatusCode::kAlreadyExists,
                 "a daemon listens on {} already; stop it, or choose another --socket", path);
  }
  struct stat status = {};
  if ((refused == 0 || refused == ECONNREFUSED) && lstat(path.c_str(), &status) == 0 &&
      S_ISSOCK(status.st_mode)) {
    unlink(path.c_str());  // of a daemon that was killed
  }
  out.socket_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.socket_.valid()) return ErrnoError(errno, "making a socket");
  // Made with no rights for others, so that there is no moment in which they could connect.
  const mode_t mask = umask(0177);
  const int bound = bind(out.socket_.get(), name, sizeof(address));
  const int bind_error = errno;
  umask(mask);
  if (bound != 0) return ErrnoError(bind_error, "binding the socket {}", path);
  out.path_ = path;
  if (lstat(path.c_str(), &status) != 0) return ErrnoError(errno, "looking at the socket {}", path);
  out.device_ = status.st_dev;
  out.inode_ = status.st_ino;
  if (out.group_ && (lchown(path.c_str(), static_cast<uid_t>(-1), *out.group_) != 0 ||
                     chmod(path.c_str(), 0660) != 0)) {
    return ErrnoError(errno, "giving the socket {} to group {}", path, *group);
  }
  if (listen(out.socket_.get(), 512) != 0) return ErrnoError(errno, "listening on {}", path);
  return out;
}

ListeningSocket& ListeningSocket::operator=(ListeningSocket&& other) noexcept {
  Unlink();
  path_ = std::exchange(other.path_, {});
  socket_ = std::move(other.socket_);
  group_ = other.group_;
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

ListeningSocket::~ListeningSocket() { Unlink(); }

void ListeningSocket::Unlink() {
  struct stat status = {};
  if (path_.empty() || lstat(path_.c_str(), &status) != 0) return;
  if (status.st_dev == device_ && status.st_ino == inode_) unlink(path_.c_str());
  path_.clear();
}

absl::Status Server::Open() {
  spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  BROOD_ASSIGN_OR_RETURN(accept_watch_,
                         pool_.Watch(socket_.fd(), POLLIN, [this](short) { Accept(); }));
  return absl::OkStatus();
}

// The file's mode has let it in; this looks again, in case somebody has changed that.
bool Server::MayConnect(int socket, uid_t uid, gid_t gid) const {
  if (uid == 0 || uid == geteuid()) return true;
  if (!socket_.group()) return false;
  std::vector<gid_t> groups(256);
  socklen_t length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  constexpr int kPeerGroups = 59;  // SO_PEERGROUPS, 4.13
  if (getsockopt(socket, SOL_SOCKET, kPeerGroups, groups.data(), &length) != 0) length = 0;
  groups.resize(length / sizeof(gid_t));
  groups.push_back(gid);
  return std::find(groups.begin(), groups.end(), *socket_.group()) != groups.end();
}

void Server::Accept() {
  for (;;) {
    if (!spare_.valid()) spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    UniqueFd socket(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    bool full = peers_.size() >= kMaxPeers;
    if (!socket.valid()) {
      if (errno != EMFILE && errno != ENFILE) return;
      // Left alone, the connection would make the socket readable for ever.
      spare_.reset();
      socket.reset(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket.valid()) {
        spare_.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
        // Somebody else took the number: a brake, or the waiting connection would spin us.
        if (!spare_.valid()) poll(nullptr, 0, 1);
        return;
      }
      full = true;
    }
    ucred credentials{};
    socklen_t length = sizeof(credentials);
    getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length);
    if (!MayConnect(socket.get(), credentials.uid, credentials.gid)) {
      Connection refused(std::move(socket));
      Refuse(refused, Error(absl::StatusCode::kPermissionDenied, "user {} may not use this daemon",
                            credentials.uid));
      continue;
    }
    auto peer = std::make_shared<Peer>(pool_, std::move(socket), credentials.uid);
    Peer* const raw = peer.get();
    // To wait for a connection may take a descriptor, too.
    full = full || !peer->Open([this, raw] { Receive(*raw); },
                               [this, raw] {
                                 service_.Vanished(*raw);
                                 peers_.erase(raw);
                               })
                        .ok();
    if (full) {
      Refuse(peer->connection(),
             Error(absl::StatusCode::kResourceExhausted,
                   "the daemon has no room for another connection ({} are open); try again",
                   peers_.size()));
    } else {
      peers_.emplace(raw, std::move(peer));
    }
  }
}

// The first byte tells: no method of HTTP begins as our messages do.
bool Server::SpeaksHttp(const Peer& peer) {
  char first = 0;
  const bool there = recv(peer.connection().fd(), &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  return there && first >= 'A' && first <= 'Z';
}

void Server::Receive(Peer& peer) {
  if (!std::exchange(peer.has_spoken, true) && SpeaksHttp(peer)) {
    take_http_(peer.Release(), peer.uid());
    return;
  }
  std::vector<Incoming> messages;
  absl::Status status = peer.connection().Receive(messages);
  for (Incoming& message : messages) {
    if (peer.open()) service_.Handle(peer.shared_from_this(), std::move(message));
  }
  std::size_t partial = 0;
  for (const auto& [raw, other] : peers_) partial += other->connection().partial_bytes();
  // Whoever holds more than an equal share has to go, not whoever comes next.
  if (status.ok() && partial > kMaxPartial &&
      peer.connection().partial_bytes() > kMaxPartial / kMaxPeers) {
    status = Error(absl::StatusCode::kResourceExhausted,
                   "too many long messages are on their way to the daemon; try again");
  }
  // Half a message is what can be given up with least harm.
  if (status.ok() && peer.connection().partial_bytes() > 0) status = service_.CheckMemory();
  if (status.ok()) return;
  if (status.code() == absl::StatusCode::kOutOfRange) {
    peer.Close();
    return;
  }
  service_.Vanished(peer);
  peer.Refuse(0, status);
  peer.CloseWhenSent();
}

void Server::StopListening() {
  if (accept_watch_) pool_.Unwatch(*accept_watch_);
  accept_watch_.reset();
  socket_.Unlink();
}

void Server::Close() {
  StopListening();
  for (const auto& [raw, peer] : peers_) peer->Close();
  for (const auto& [raw, peer] : peers_) service_.Vanished(*peer);
  peers_.clear();
}

}  // namespace brood
