// SPDX-License-Identifier: Apache-2.0

// How many network interfaces one network namespace bears: the kernel sets no limit, but each costs
// more than the one before.
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>

#include "pool/stress/unit.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood::limits {
namespace {

// A request of rtnetlink(7), built up in place. By hand, since of the libraries for it one has no
// archive in Debian and the other brings name services into a program that is linked with archives.
class LinkRequest {
 public:
  LinkRequest(std::uint16_t type, std::uint16_t flags) {
    header().nlmsg_len = NLMSG_LENGTH(sizeof(ifinfomsg));
    header().nlmsg_type = type;
    header().nlmsg_flags = flags;
  }
  // An attribute whose end is not known yet: what is added next lies in it, until Close.
  std::size_t Open(std::uint16_t type) {
    const std::size_t at = NLMSG_ALIGN(header().nlmsg_len);
    const rtattr attribute{.rta_len = RTA_LENGTH(0), .rta_type = type};
    std::memcpy(bytes_.data() + at, &attribute, sizeof(attribute));
    header().nlmsg_len = static_cast<std::uint32_t>(at + RTA_LENGTH(0));
    return at;
  }
  void Close(std::size_t at) {
    const auto length = static_cast<std::uint16_t>(header().nlmsg_len - at);
    std::memcpy(bytes_.data() + at + offsetof(rtattr, rta_len), &length, sizeof(length));
  }
  void Add(std::uint16_t type, const std::string& text) {
    const std::size_t at = Open(type);
    std::memcpy(bytes_.data() + header().nlmsg_len, text.c_str(), text.size() + 1);
    header().nlmsg_len += static_cast<std::uint32_t>(text.size() + 1);
    Close(at);
  }
  // Room for the header that an interface's description begins with.
  void AddInterface() { header().nlmsg_len += sizeof(ifinfomsg); }

  // 0, or the errno of the kernel's answer.
  int Send(int socket) {
    if (send(socket, bytes_.data(), header().nlmsg_len, 0) < 0) return errno;
    alignas(nlmsghdr) std::array<char, 4096> answer{};
    const ssize_t length = recv(socket, answer.data(), answer.size(), 0);
    if (length < 0) return errno;
    nlmsgerr error{};
    if (static_cast<std::size_t>(length) < NLMSG_LENGTH(sizeof(error))) return EBADMSG;
    std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof(error));
    return -error.error;
  }

 private:
  nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(bytes_.data()); }

  alignas(nlmsghdr) std::array<char, 256> bytes_{};
};

// Pairs of interfaces that are each other's cable, both ends in a namespace of their own.
class VethPairs : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    if (unshare(CLONE_NEWNET) != 0) {
      return Error(absl::StatusCode::kUnavailable, "making a network namespace: {}",
                   ErrnoText(errno));
    }
    socket_.reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket_.valid()) {
      return Error(absl::StatusCode::kUnavailable, "opening a netlink socket: {}",
                   ErrnoText(errno));
    }
    // The first one shows whether the kernel has them.
    if (const int error = AddOne(); error != 0) {
      return Error(absl::StatusCode::kUnavailable, "making a pair of veth: {}", ErrnoText(error));
    }
    return wanted.value_or(kNoMaximum);
  }
  std::uint64_t ThereBefore() const override { return 1; }
  int AddOne() override {
    ++made_;
    LinkRequest request(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
    request.Add(IFLA_IFNAME, fmt::format("a{}", made_));
    const std::size_t info = request.Open(IFLA_LINKINFO);
    request.Add(IFLA_INFO_KIND, "veth");
    const std::size_t data = request.Open(IFLA_INFO_DATA);
    const std::size_t peer = request.Open(VETH_INFO_PEER);
    request.AddInterface();
    request.Add(IFLA_IFNAME, fmt::format("b{}", made_));
    request.Close(peer);
    request.Close(data);
    request.Close(info);
    return request.Send(socket_.get());
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kUnshare, .error = error};
  }
  void Release() override {
    // The namespace takes all of them along, and this process takes another.
    if (unshare(CLONE_NEWNET) == 0) socket_.reset();
  }
  bool Drained() override {
    // Where one network namespace is allowed beside this process's own, another can be made only
    // when the kernel is through with the old one.
    if (WriteFile("/proc/sys/user/max_net_namespaces", "2") != 0) return false;
    return unshare(CLONE_NEWNET) == 0;
  }

 private:
  UniqueFd socket_;
  std::uint64_t made_ = 0;
};

}  // namespace

std::vector<Unit> NetworkUnits() {
  return {{.name = "veth-pairs",
           .limit = "",
           .call = "RTM_NEWLINK",
           .what = "pairs of network interfaces in one network namespace",
           .cost = {.bytes = 60'000},
           .make = [] { return std::make_unique<VethPairs>(); }}};
}

}  // namespace brood::limits
