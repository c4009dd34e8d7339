#include "uring/ring_io.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "base/check.h"
#include "base/unique_fd.h"
#include "uring/socket_options.h"
#include "uring/tcp_sample.h"

namespace ringmain {
namespace {

constexpr uint16_t kBufferGroup = 0;

void SetInt(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof(value)); }

}  // namespace

void DisableSendDelay(int fd) { SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

void SetKeepAlive(int fd, seconds idle, const SocketOptions* options) {
  if (idle.count() == 0) return SetInt(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
  // A dead peer is noticed after idle + 3 probes: twice the idle time in all.
  int idle_seconds = static_cast<int>(idle.count());
  int interval = std::max(1, idle_seconds / 3), count = 3;
  if (options != nullptr && options->keepalive_interval.count() != 0) interval = static_cast<int>(options->keepalive_interval.count());
  if (options != nullptr && options->keepalive_count != 0) count = static_cast<int>(options->keepalive_count);
  SetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
  SetInt(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval);
  SetInt(fd, IPPROTO_TCP, TCP_KEEPCNT, count);
  SetInt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

absl::StatusOr<std::unique_ptr<RingIo>> RingIo::Create(Ring& ring, const BufferPool::Options& buffers,
                                                       uint16_t max_pipes) {
  std::unique_ptr<RingIo> io(new RingIo(ring, buffers.ring_entries(), max_pipes));
  // Not io_uring_setup_buf_ring: liburing 2.3 does not have it.
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, buffers.ring_entries() * sizeof(io_uring_buf)) != 0)
    return absl::ResourceExhaustedError("no memory for the ring of receive buffers");
  io->buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uintptr_t>(memory);
  registration.ring_entries = buffers.ring_entries();
  registration.bgid = kBufferGroup;
  if (int error = io_uring_register_buf_ring(ring.raw(), &registration, 0); error != 0)
    return absl::FailedPreconditionError(DescribeSetupError(-error));
  io_uring_buf_ring_init(io->buffer_ring_);
  BufferPublisher& publisher = *io;
  io->pool_ = std::make_unique<BufferPool>(buffers, publisher);
  return io;
}

RingIo::RingIo(Ring& ring, uint32_t ring_entries, uint16_t max_pipes)
    : ring_(ring),
      abilities_{ring.features().multishot_receive, ring.features().optlen, ring.features().splice && max_pipes > 0},
      ring_entries_(ring_entries),
      pipes_(max_pipes) {}

RingIo::~RingIo() {
  if (pool_ != nullptr) io_uring_unregister_buf_ring(ring_.raw(), kBufferGroup);
  std::free(buffer_ring_);
}

void RingIo::Publish(uint16_t buffer, char* data, uint32_t size) {
  io_uring_buf_ring_add(buffer_ring_, data, size, buffer, io_uring_buf_ring_mask(ring_entries_), 0);
  io_uring_buf_ring_advance(buffer_ring_, 1);
}

// Not with IORING_RECVSEND_POLL_FIRST: on Linux 6.18 a multishot receive that finds data and a reset at once then brings only the data.
void RingIo::ReceiveMultishot(Token token, int fd, uint32_t credit_bytes) {
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = kBufferGroup;
  // `optlen`, the total cap of a multishot receive (Linux 6.17), is the same 32 bits as file_index of older headers.
  if (abilities_.receive_credit) sqe->file_index = credit_bytes;
  io_uring_sqe_set_data64(sqe, token.Pack());
}

void RingIo::ReceiveOnce(Token token, int fd, uint32_t max_bytes, bool poll_first) {
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_recv(sqe, fd, nullptr, max_bytes, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = kBufferGroup;
  if (poll_first) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
  io_uring_sqe_set_data64(sqe, token.Pack());
}

void RingIo::Send(Token token, int fd, std::span<const iovec> parts, SendMode mode) {
  int flags = MSG_NOSIGNAL | (mode == SendMode::kTry ? MSG_DONTWAIT : 0);
  if (parts.size() == 1) {
    io_uring_sqe* sqe = ring_.NextSqe();
    io_uring_prep_send(sqe, fd, parts[0].iov_base, parts[0].iov_len, flags);
    io_uring_sqe_set_data64(sqe, token.Pack());
    return;
  }
  RINGMAIN_CHECK(!parts.empty() && parts.size() <= kMaxParts);
  VectoredSend& send = NextVectoredSend();
  std::copy(parts.begin(), parts.end(), send.parts.begin());
  send.header = {};
  send.header.msg_iov = send.parts.data();
  send.header.msg_iovlen = parts.size();
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_sendmsg(sqe, fd, &send.header, flags);
  io_uring_sqe_set_data64(sqe, token.Pack());
}

RingIo::VectoredSend& RingIo::NextVectoredSend() {
  if (next_vectored_ == kVectoredSends)
    while (io_uring_sq_ready(ring_.raw()) != 0) ring_.Submit();
  if (io_uring_sq_ready(ring_.raw()) == 0) next_vectored_ = 0;
  return vectored_[next_vectored_++];
}

void RingIo::Connect(Token token, int fd, const SocketAddress& address) {
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_connect(sqe, fd, address.address(), address.length());
  io_uring_sqe_set_data64(sqe, token.Pack());
}

int RingIo::OpenSocket(int family, const SocketAddress* source, const SocketOptions* options, bool transparent) {
  direct_calls_ += family == AF_UNIX ? 1 : source == nullptr ? 2 : 4;
  if (family == AF_UNIX) return OpenStreamSocket(family, /*mptcp=*/false);
  int opened = OpenStreamSocket(family, options != nullptr && options->mptcp);
  if (opened < 0) return opened;
  UniqueFd fd(opened);
  DisableSendDelay(fd.get());
  OptionFailure failure;
  if (options != nullptr) failure = SetConnectingOptions(fd.get(), family, *options);
  // They were tried before they came into force; but fast open, the last of them, may have been switched off since.
  if (failure.key != nullptr && failure.error != EOPNOTSUPP) return -failure.error;
  if (transparent) failure = SetTransparent(fd.get(), family);
  if (transparent && failure.key != nullptr) return -failure.error;
  if (source == nullptr) return fd.release();
  // Without it bind(2) would take a port for all destinations; with it connect(2) finds one that is free towards its own (man 7 ip, since
  // Linux 4.2; IPv6 sockets take this option of IPv4 too).
  SetInt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  return bind(fd.get(), source->address(), source->length()) == 0 ? fd.release() : -errno;
}

void RingIo::KeepAlive(int fd, seconds idle, const SocketOptions* options) {
  direct_calls_ += 4;
  SetKeepAlive(fd, idle, options);
}

bool RingIo::ConnectedToItself(int fd, const SocketAddress& server) {
  ++direct_calls_;
  absl::StatusOr<SocketAddress> local = SocketAddress::OfSocket(fd);
  if (!local.ok() || local->port() != server.port()) return false;
  absl::StatusOr<SocketAddress> peer = SocketAddress::OfPeer(fd);  // not `server`, which may be 0.0.0.0
  return peer.ok() && *peer == *local;
}

// Not IORING_OP_SPLICE: the kernel hands each one to a worker thread (io_uring/splice.c, always punted).
int RingIo::SpliceToPipe(int fd, uint16_t pipe, uint32_t max_bytes) {
  ++direct_calls_;
  ssize_t moved = splice(fd, nullptr, pipes_.write_end(pipe), nullptr, max_bytes, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  return moved >= 0 ? static_cast<int>(moved) : -errno;
}

int RingIo::SpliceFromPipe(uint16_t pipe, int fd, uint32_t bytes) {
  ++direct_calls_;
  ssize_t moved = splice(pipes_.read_end(pipe), nullptr, fd, nullptr, bytes, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  return moved >= 0 ? static_cast<int>(moved) : -errno;
}

int RingIo::ReceiveNow(int fd, std::span<const iovec> parts) {
  ++direct_calls_;
  ssize_t received = readv(fd, parts.data(), static_cast<int>(parts.size()));
  return received >= 0 ? static_cast<int>(received) : -errno;
}

int RingIo::SendNow(int fd, std::span<const iovec> parts) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());  // only read
  message.msg_iovlen = parts.size();
  ++direct_calls_;
  ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent >= 0 ? static_cast<int>(sent) : -errno;
}

void RingIo::ShutdownSend(int fd) {
  ++direct_calls_;
  shutdown(fd, SHUT_WR);
}

void RingIo::Close(int fd) {
  ++direct_calls_;
  close(fd);
}

void RingIo::CloseWithReset(int fd) {
  direct_calls_ += 2;
  linger abort{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  close(fd);
}

// A connect to no address ends a TCP connection at once, with a reset (tcp_disconnect in net/ipv4/tcp.c); unix sockets know no such thing.
void RingIo::EndForAll(int fd, bool reset) {
  ++direct_calls_;
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  if (!reset || connect(fd, &nowhere, sizeof(nowhere)) != 0) shutdown(fd, SHUT_RDWR);
}

void RingIo::PollNow(std::span<pollfd> files) {
  ++direct_calls_;
  poll(files.data(), files.size(), 0);
}

bool RingIo::HasBytes(int fd) {
  ++direct_calls_;
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

std::optional<TcpSample> RingIo::SampleTcp(int fd) {
  ++direct_calls_;
  return ringmain::SampleTcp(fd);
}

std::optional<SocketAddress> RingIo::PeerAddress(int fd) {
  ++direct_calls_;
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), length);
}

std::optional<SocketAddress> RingIo::LocalAddress(int fd) {
  ++direct_calls_;
  absl::StatusOr<SocketAddress> address = SocketAddress::OfSocket(fd);
  return address.ok() ? std::optional(*address) : std::nullopt;
}

}  // namespace ringmain
