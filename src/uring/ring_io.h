// RingIo: the Io of a worker, over its ring.
#pragma once

#include <array>
#include <memory>

#include "absl/status/statusor.h"
#include "uring/buffer_pool.h"
#include "uring/io.h"
#include "uring/pipe_pool.h"
#include "uring/ring.h"

namespace ringmain {

// Owns the buffer ring that the kernel takes receive buffers from, and the pool behind it. Thread-bound, like the ring.
class RingIo final : public Io, private BufferPublisher {
 public:
  // `ring` outlives the result. Errors: the kernel refuses the buffer ring.
  // With `max_pipes` zero nothing is spliced.
  static absl::StatusOr<std::unique_ptr<RingIo>> Create(Ring& ring, const BufferPool::Options& buffers,
                                                        uint16_t max_pipes = 0);
  ~RingIo() override;

  BufferPool& buffers() { return *pool_; }
  const PipePool& pipes() const { return pipes_; }
  // System calls that were made directly, not through the ring; those that make pipes and set what `options` ask for are left out.
  uint64_t direct_calls() const { return direct_calls_; }

  const Abilities& abilities() const override { return abilities_; }
  void ReceiveMultishot(Token token, int fd, uint32_t credit_bytes) override;
  void ReceiveOnce(Token token, int fd, uint32_t max_bytes, bool poll_first) override;
  void Send(Token token, int fd, std::span<const iovec> parts, SendMode mode) override;
  void Poll(Token token, int fd, short events) override { ring_.Poll(token, fd, events); }
  void Connect(Token token, int fd, const SocketAddress& address) override;
  void Cancel(Token target) override { ring_.Cancel(target); }
  int OpenSocket(int family, const SocketAddress* source, const SocketOptions* options = nullptr, bool transparent = false) override;
  void KeepAlive(int fd, seconds idle, const SocketOptions* options) override;
  bool ConnectedToItself(int fd, const SocketAddress& server) override;
  void ShutdownSend(int fd) override;
  void Close(int fd) override;
  void CloseWithReset(int fd) override;
  void EndForAll(int fd, bool reset) override;
  std::optional<uint16_t> AcquirePipe() override { return pipes_.Acquire(); }
  void ReleasePipe(uint16_t pipe) override { pipes_.Release(pipe); }
  std::array<int, 2> PipeEnds(uint16_t pipe) override { return {pipes_.read_end(pipe), pipes_.write_end(pipe)}; }
  uint16_t AdoptPipe(int read_end, int write_end) override { return pipes_.Adopt(UniqueFd(read_end), UniqueFd(write_end)); }
  void DiscardPipe(uint16_t pipe) override { pipes_.Discard(pipe); }
  int SpliceToPipe(int fd, uint16_t pipe, uint32_t max_bytes) override;
  int SpliceFromPipe(uint16_t pipe, int fd, uint32_t bytes) override;
  int ReceiveNow(int fd, std::span<const iovec> parts) override;
  int SendNow(int fd, std::span<const iovec> parts) override;
  void PollNow(std::span<pollfd> files) override;
  bool HasBytes(int fd) override;
  std::optional<TcpSample> SampleTcp(int fd) override;
  std::optional<SocketAddress> PeerAddress(int fd) override;
  std::optional<SocketAddress> LocalAddress(int fd) override;
  TimePoint Now() override { return Clock::now(); }

 private:
  // The message header of one vectored send; the kernel reads it when the entry is submitted.
  struct VectoredSend {
    msghdr header;
    std::array<iovec, kMaxParts> parts;
  };
  static constexpr size_t kVectoredSends = 64;

  RingIo(Ring& ring, uint32_t ring_entries, uint16_t max_pipes);
  void Publish(uint16_t buffer, char* data, uint32_t size) override;
  VectoredSend& NextVectoredSend();

  Ring& ring_;
  const Abilities abilities_;
  const uint32_t ring_entries_;
  io_uring_buf_ring* buffer_ring_ = nullptr;
  std::unique_ptr<BufferPool> pool_;
  PipePool pipes_;
  // Headers are handed out in turn, and again from the first once the kernel has taken all queued entries.
  std::array<VectoredSend, kVectoredSends> vectored_;
  size_t next_vectored_ = 0;
  uint64_t direct_calls_ = 0;
};

}  // namespace ringmain
