#include "uring/tcp_sample.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace ringmain {

std::optional<TcpSample> SampleTcp(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return std::nullopt;
  if (length < offsetof(tcp_info, tcpi_data_segs_out) + sizeof(info.tcpi_data_segs_out)) return std::nullopt;
  return TcpSample{microseconds(info.tcpi_rtt), info.tcpi_data_segs_out, info.tcpi_total_retrans};
}

}  // namespace ringmain
