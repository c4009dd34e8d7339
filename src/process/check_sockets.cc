#include "process/check_sockets.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "uring/socket_options.h"

namespace ringmain {
namespace {

constexpr uint32_t kFastOpenServers = 2;  // the bit of net.ipv4.tcp_fastopen that is for listening sockets

bool ListeningMayBeFast() {
  uint32_t setting = 0;
  std::ifstream("/proc/sys/net/ipv4/tcp_fastopen") >> setting;
  return (setting & kFastOpenServers) != 0;
}

// The socket options of one listener or upstream, for sockets of one family.
class Check {
 public:
  Check(std::string who, const SocketOptions& options, std::vector<std::string>& warnings)
      : who_(std::move(who)), options_(options), warnings_(warnings) {}

  // `set` makes the calls on a socket of that family, and returns an OptionFailure.
  template <typename Set>
  absl::Status Try(int family, Set set) {
    if (options_.mptcp && !HasMptcp(family) && !warned_) {
      warned_ = true;
      warnings_.push_back(absl::StrCat(who_, "socket.mptcp: the kernel has no MPTCP, or net.mptcp.enabled is 0; plain TCP takes its place"));
    }
    int opened = OpenStreamSocket(family, options_.mptcp);
    if (opened < 0) return absl::FailedPreconditionError(absl::StrCat(who_, "no socket to be had: ", std::strerror(-opened)));
    UniqueFd fd(opened);
    OptionFailure failure = set(opened);
    if (failure.key == nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError(who_ + DescribeFailure(failure, options_));
  }

 private:
  const std::string who_;
  const SocketOptions& options_;
  std::vector<std::string>& warnings_;
  bool warned_ = false;
};

template <typename Entry, typename AddressOf>
bool HasFamily(const std::vector<Entry>& entries, int family, AddressOf address_of) {
  for (const Entry& entry : entries)
    if (address_of(entry).family() == family) return true;
  return false;
}

absl::Status CheckListener(const ListenerConfig& listener, std::vector<std::string>& warnings) {
  std::string who = absl::StrCat("listener ", listener.name, ": ");
  Check check(who, listener.socket, warnings);
  if (listener.socket.fast_open != 0 && !ListeningMayBeFast())
    warnings.push_back(who + "socket.fast_open has no effect until net.ipv4.tcp_fastopen has its bit 2 (2 or 3)");
  for (int family : {AF_INET, AF_INET6}) {
    if (!HasFamily(listener.listen, family, [](const SocketAddress& address) { return address; })) continue;
    absl::Status status = check.Try(family, [&](int fd) { return SetListeningOptions(fd, family, listener.socket); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckUpstream(const UpstreamConfig& upstream, std::vector<std::string>& warnings) {
  Check check(absl::StrCat("upstream ", upstream.name, ": "), upstream.socket, warnings);
  for (int family : {AF_INET, AF_INET6}) {
    if (!HasFamily(upstream.servers, family, [](const ServerConfig& server) { return server.address; })) continue;
    absl::Status status = check.Try(family, [&](int fd) {
      OptionFailure failure = SetConnectingOptions(fd, family, upstream.socket);
      return failure.key == nullptr && upstream.transparent ? SetTransparent(fd, family) : failure;
    });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSockets(const Config& config, std::vector<std::string>& warnings) {
  for (const ListenerConfig& listener : config.listeners) {
    if (listener.socket == SocketOptions()) continue;
    if (absl::Status status = CheckListener(listener, warnings); !status.ok()) return status;
  }
  for (const UpstreamConfig& upstream : config.upstreams) {
    if (upstream.socket == SocketOptions() && !upstream.transparent) continue;
    if (absl::Status status = CheckUpstream(upstream, warnings); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace ringmain
