#include "uring/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace ringmain {
namespace {

// Of linux/in.h and linux/in6.h, which do not go together with the C library's.
constexpr int kProtocolMptcp = 262;   // IPPROTO_MPTCP
constexpr int kIpv6Transparent = 75;  // IPV6_TRANSPARENT

// Makes the calls that are asked for, until one fails; with `all` also the others, of which none needs to succeed.
class Setter {
 public:
  Setter(int fd, bool all) : fd_(fd), all_(all) {}

  void Int(const char* key, bool asked, int level, int option, int value) { Set(key, asked, level, option, &value, sizeof(value)); }
  void Text(const char* key, bool asked, int level, int option, const std::string& value) {
    Set(key, asked, level, option, value.data(), static_cast<socklen_t>(value.size()));
  }
  OptionFailure failure() const { return failure_; }

 private:
  void Set(const char* key, bool asked, int level, int option, const void* value, socklen_t length) {
    if (failure_.key != nullptr || !(asked || all_)) return;
    if (setsockopt(fd_, level, option, value, length) != 0 && asked) failure_ = {key, errno};
  }

  const int fd_;
  const bool all_;
  OptionFailure failure_;
};

// That of a new socket (net.ipv4.tcp_congestion_control).
std::string UsualCongestionControl() {
  UniqueFd fd(OpenStreamSocket(AF_INET, false));
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX
  auto length = static_cast<socklen_t>(name.size());
  if (!fd.valid() || getsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) != 0) return "";
  return name.data();
}

void SetCommon(Setter& set, int family, const SocketOptions& options, const std::string& congestion_control) {
  set.Text("interface", !options.interface.empty(), SOL_SOCKET, SO_BINDTODEVICE, options.interface);
  set.Int("mark", options.mark.has_value(), SOL_SOCKET, SO_MARK, static_cast<int>(options.mark.value_or(0)));
  int traffic_class = options.dscp.value_or(0) << 2;  // the two bits below are those of congestion notification, and TCP's
  bool ipv4 = family == AF_INET;
  set.Int("dscp", options.dscp.has_value(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TOS : IPV6_TCLASS, traffic_class);
  set.Text("congestion_control", !options.congestion_control.empty(), IPPROTO_TCP, TCP_CONGESTION, congestion_control);
  set.Int("max_segment", options.max_segment != 0, IPPROTO_TCP, TCP_MAXSEG, static_cast<int>(options.max_segment));
  set.Int("user_timeout", options.user_timeout.count() != 0, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(options.user_timeout.count()));
}

OptionFailure SetListening(Setter set, int family, const SocketOptions& options, const std::string& congestion_control) {
  SetCommon(set, family, options, congestion_control);
  set.Int("defer_accept", options.defer_accept.count() != 0, IPPROTO_TCP, TCP_DEFER_ACCEPT, static_cast<int>(options.defer_accept.count()));
  set.Int("fast_open", options.fast_open != 0, IPPROTO_TCP, TCP_FASTOPEN, static_cast<int>(options.fast_open));
  return set.failure();
}

std::string Setting(const char* path) {
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return std::string(absl::StripAsciiWhitespace(text));
}

std::string DescribeCongestionControl(const std::string& name, int error) {
  if (error == EPERM)
    return absl::StrCat("'", name, "' needs CAP_NET_ADMIN, since it is not in net.ipv4.tcp_allowed_congestion_control (",
                        Setting("/proc/sys/net/ipv4/tcp_allowed_congestion_control"), ")");
  if (error == ENOENT)
    return absl::StrCat("the kernel has no '", name, "'; it has ", Setting("/proc/sys/net/ipv4/tcp_available_congestion_control"));
  return std::strerror(error);
}

}  // namespace

int OpenStreamSocket(int family, bool mptcp) {
  constexpr int kType = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  int fd = mptcp ? socket(family, kType, kProtocolMptcp) : -1;
  if (fd < 0) fd = socket(family, kType, 0);
  return fd >= 0 ? fd : -errno;
}

bool HasMptcp(int family) { return UniqueFd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, kProtocolMptcp)).valid(); }

bool IsMptcp(int fd) {
  int protocol = 0;
  socklen_t length = sizeof(protocol);
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == kProtocolMptcp;
}

OptionFailure SetListeningOptions(int fd, int family, const SocketOptions& options) {
  return SetListening(Setter(fd, /*all=*/false), family, options, options.congestion_control);
}

OptionFailure ReplaceListeningOptions(int fd, int family, const SocketOptions& options) {
  return SetListening(Setter(fd, /*all=*/true), family, options,
                      options.congestion_control.empty() ? UsualCongestionControl() : options.congestion_control);
}

OptionFailure SetConnectingOptions(int fd, int family, const SocketOptions& options) {
  Setter set(fd, /*all=*/false);
  SetCommon(set, family, options, options.congestion_control);
  set.Int("fast_open", options.fast_open != 0, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
  return set.failure();
}

OptionFailure SetTransparent(int fd, int family) {
  Setter set(fd, /*all=*/false);
  bool ipv4 = family == AF_INET;
  set.Int("transparent", true, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_TRANSPARENT : kIpv6Transparent, 1);
  return set.failure();
}

std::string DescribeFailure(const OptionFailure& failure, const SocketOptions& options) {
  std::string_view key = failure.key;
  std::string where = absl::StrCat(key == "transparent" ? "" : "socket.", failure.key, ": ");
  if (key == "congestion_control") return where + DescribeCongestionControl(options.congestion_control, failure.error);
  if (key == "interface" && failure.error == ENODEV) return absl::StrCat(where, "there is no interface '", options.interface, "'");
  if (key == "interface" && failure.error == EPERM) return where + "needs CAP_NET_RAW";
  if (failure.error == EPERM) return where + "needs CAP_NET_ADMIN";
  if (options.mptcp && (failure.error == EOPNOTSUPP || failure.error == ENOPROTOOPT))
    return where + "this kernel does not have it for MPTCP sockets; leave out one of the two";
  if (key == "fast_open" && failure.error == EOPNOTSUPP)
    return where + "net.ipv4.tcp_fastopen is " + Setting("/proc/sys/net/ipv4/tcp_fastopen") + "; connects need its bit 1 (1 or 3)";
  return where + std::strerror(failure.error);
}

}  // namespace ringmain
