#include "uring/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "base/check.h"

namespace ringmain {
namespace {

// Memory is made usable in steps of this size; a page is only resident once the kernel or we write to it.
constexpr uint64_t kGrowBytes = 1 << 20;

}  // namespace

BufferPool::BufferPool(const Options& options, BufferPublisher& publisher)
    : options_(options), publisher_(publisher), ring_buffers_(options.ring_buffers) {
  RINGMAIN_CHECK(options.buffer_bytes % 4096 == 0 && options.buffer_bytes > 0);
  // PROT_NONE reserves addresses without committing memory, also where vm.overcommit_memory is 2. A limit of addresses (RLIMIT_AS) may
  // leave room for a smaller pool.
  void* base = MAP_FAILED;
  for (max_total_ = options.most_buffers; max_total_ >= options.ring_entries(); max_total_ /= 2) {
    base = mmap(nullptr, uint64_t{max_total_} * options.buffer_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (base != MAP_FAILED) break;
  }
  if (base == MAP_FAILED) throw std::bad_alloc();
  SetMaxBytes(options.max_bytes);
  base_ = static_cast<char*>(base);
  for (uint32_t i = 0; i < options.ring_buffers; ++i) {
    RINGMAIN_CHECK(Grow());
    Publish(static_cast<uint16_t>(total_ - 1));
  }
}

void BufferPool::SetMaxBytes(uint64_t max_bytes) {
  uint64_t most = std::max<uint64_t>(max_bytes / options_.buffer_bytes, options_.ring_entries() + 1);
  max_held_ = static_cast<uint32_t>(std::min<uint64_t>(most, max_total_)) - options_.ring_entries();
}

BufferPool::~BufferPool() { munmap(base_, static_cast<uint64_t>(max_total_) * options_.buffer_bytes); }

void BufferPool::Take(uint16_t buffer, uint32_t length) {
  RINGMAIN_CHECK(buffer < total_ && length <= options_.buffer_bytes && published_ > 0);
  --published_;
  headers_[buffer] = {0, length, kNone, false};
}

std::optional<uint16_t> BufferPool::Borrow(bool though_tight) {
  if (tight() && !though_tight) return std::nullopt;
  std::optional<uint16_t> buffer = TakeSpare();
  if (!buffer.has_value()) return std::nullopt;
  headers_[*buffer] = {0, 0, kNone, true};
  ++held_;
  return buffer;
}

void BufferPool::Hold(uint16_t buffer) {
  RINGMAIN_CHECK(!headers_[buffer].held);
  headers_[buffer].held = true;
  ++held_;
  PublishAnother();
}

void BufferPool::Release(uint16_t buffer) {
  Header& header = headers_[buffer];
  if (!header.held) {
    Publish(buffer);
    return;
  }
  header.held = false;
  --held_;
  if (missing_ > 0) {
    --missing_;
    Publish(buffer);
  } else {
    spares_.push_back(buffer);
  }
}

void BufferPool::WidenRing() {
  uint32_t wider = std::min(2 * ring_buffers_, options_.ring_entries());
  for (; ring_buffers_ < wider; ++ring_buffers_) PublishAnother();
}

void BufferPool::PublishAnother() {
  if (std::optional<uint16_t> spare = TakeSpare(); spare.has_value())
    Publish(*spare);
  else
    ++missing_;
}

std::optional<uint16_t> BufferPool::TakeSpare() {
  if (!spares_.empty()) {
    uint16_t spare = spares_.back();
    spares_.pop_back();
    return spare;
  }
  if (!Grow()) return std::nullopt;
  return static_cast<uint16_t>(total_ - 1);
}

// Brings one more buffer into existence, with the next number. False when all exist or memory is refused.
bool BufferPool::Grow() {
  if (total_ == max_total_) return false;
  if (total_ == usable_) {
    auto step = std::max<uint32_t>(1, static_cast<uint32_t>(kGrowBytes / options_.buffer_bytes));
    step = std::min(step, max_total_ - usable_);
    if (mprotect(data(static_cast<uint16_t>(usable_)), static_cast<uint64_t>(step) * options_.buffer_bytes,
                 PROT_READ | PROT_WRITE) != 0)
      return false;
    usable_ += step;
    headers_.resize(usable_, Header{0, 0, kNone, false});
  }
  ++total_;
  return true;
}

void BufferPool::Publish(uint16_t buffer) {
  ++published_;
  publisher_.Publish(buffer, data(buffer), options_.buffer_bytes);
}

}  // namespace ringmain
