// BufferPool: the receive buffers of one worker.
//
// A buffer is in one of three places:
//   - the kernel's ring: published, the kernel may write into it at any time;
//   - with a session, between the completion that brought it and Release. One that is still needed after the loop turn (its receiver
//     is slow) is held: Hold puts a spare into the ring in its place, so that slow receivers never drain the ring of the others. A
//     spare can be borrowed, too, and is held until Release;
//   - spare.
// All memory is one reserved range of addresses, made usable as the pool grows, so a buffer's number gives its address.
// Thread-bound.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace ringmain {

// Where a free buffer is handed to the kernel. RingIo implements it; so does the simulation.
class BufferPublisher {
 public:
  virtual ~BufferPublisher() = default;
  virtual void Publish(uint16_t buffer, char* data, uint32_t size) = 0;
};

class BufferPool {
 public:
  static constexpr uint16_t kNone = 0xffff;

  struct Options {
    uint32_t buffer_bytes = 32 << 10;  // a multiple of 4096
    uint32_t ring_buffers = 64;        // kept in the kernel's ring at first; a power of two
    // Of all buffers; more than ring_entries() * buffer_bytes. What sessions hold beyond it is bounded by the sessions: the pool says
    // when it gets tight, scarce and full, and they then receive in small steps, or not at all while they hold a buffer.
    uint64_t max_bytes = 64 << 20;
    // What can ever exist. Buffer numbers are 16 bits (io_uring_buf.bid), and one value means "none".
    uint32_t most_buffers = kNone;
    uint32_t max_ring_buffers = 0;  // WidenRing may bring it to: a power of two, at most 32768; zero: it stays as it is

    // What the kernel's ring has room for.
    uint32_t ring_entries() const { return std::max(ring_buffers, max_ring_buffers); }
  };

  // What a session keeps about a buffer it has: the unsent bytes are [offset, offset + length); next links a queue.
  struct Header {
    uint32_t offset;
    uint32_t length;
    uint16_t next;
    bool held;
  };

  // Publishes the first ring_buffers. Throws std::bad_alloc if no address space can be reserved. `publisher` outlives the pool.
  BufferPool(const Options& options, BufferPublisher& publisher);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  char* data(uint16_t buffer) { return base_ + static_cast<uint64_t>(buffer) * options_.buffer_bytes; }
  Header& header(uint16_t buffer) { return headers_[buffer]; }
  uint32_t buffer_bytes() const { return options_.buffer_bytes; }

  // A completion brought `buffer` with `length` bytes: the caller has it now.
  void Take(uint16_t buffer, uint32_t length);
  // An empty spare, held by the caller. None if the pool is tight, unless that is not to matter, or memory is refused.
  std::optional<uint16_t> Borrow(bool though_tight = false);
  // The caller keeps a buffer beyond this turn. REQUIRES: taken, not yet held.
  void Hold(uint16_t buffer);
  // The caller is done with a buffer: back to the kernel, or to the spares.
  void Release(uint16_t buffer);
  // Receives found the ring empty: keeps twice as many buffers in it from now on, if it has room. A ring is walked from end to end, so
  // a short one stays in the processor's cache; but what one loop turn receives must fit, and what the last one received is still being
  // sent meanwhile.
  void WidenRing();

  // Another Options::max_bytes. What is held beyond it stays held.
  void SetMaxBytes(uint64_t max_bytes);

  // Buffers that receives can get now. Zero starves every receive until a Release.
  uint32_t published() const { return published_; }
  // Buffers that the ring has while no session has any.
  uint32_t ring_buffers() const { return ring_buffers_; }
  uint32_t held() const { return held_; }
  uint32_t total() const { return total_; }
  uint32_t max_total() const { return max_total_; }
  // More than half of what may be held is: no direction should be given leave to receive much at once.
  bool tight() const { return held_ > max_held_ / 2; }
  // More than 7/8: directions that hold some already should receive no more, so that the rest serves those that keep up.
  bool scarce() const { return held_ > max_held_ - max_held_ / 8; }
  // All of it: no new sessions.
  bool full() const { return held_ >= max_held_; }

 private:
  std::optional<uint16_t> TakeSpare();
  bool Grow();
  void PublishAnother();
  void Publish(uint16_t buffer);

  const Options options_;
  BufferPublisher& publisher_;
  char* base_ = nullptr;
  uint32_t max_total_ = 0;  // addresses are reserved for
  uint32_t max_held_ = 0;
  uint32_t total_ = 0;      // exist
  uint32_t usable_ = 0;     // have usable memory, >= total_
  uint32_t published_ = 0;  // in the kernel's ring
  uint32_t ring_buffers_;
  uint32_t held_ = 0;
  uint32_t missing_ = 0;  // holds that found no spare: the next releases go to the ring
  std::vector<Header> headers_;
  std::vector<uint16_t> spares_;
};

}  // namespace ringmain
