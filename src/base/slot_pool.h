// SlotPool: objects at addresses that never change, found by a small index, with a generation that tells a slot's users apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/check.h"

namespace ringmain {

// Grows by chunks and never shrinks; a freed slot is used again, with the next generation. Thread-bound.
template <typename T, size_t kChunk = 64>
class SlotPool {
 public:
  static constexpr uint32_t kGenerationMask = 0xffffff;  // what fits a completion token

  SlotPool() = default;
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;
  ~SlotPool() { RINGMAIN_CHECK(size_ == 0); }

  // T is constructed as T(index, generation, args...).
  template <typename... Args>
  T& Create(Args&&... args) {
    if (free_.empty()) Grow();
    uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = SlotAt(index);
    T* object = new (slot.memory) T(index, slot.generation, std::forward<Args>(args)...);
    slot.used = true;
    ++size_;
    return *object;
  }

  // REQUIRES: the slot is in use.
  void Destroy(uint32_t index) {
    Slot& slot = SlotAt(index);
    RINGMAIN_CHECK(slot.used);
    slot.object()->~T();
    slot.used = false;
    slot.generation = (slot.generation + 1) & kGenerationMask;
    free_.push_back(index);
    --size_;
  }

  // Null if the slot is free or belongs to another generation.
  T* Find(uint32_t index, uint32_t generation) {
    if (index >= slots()) return nullptr;
    Slot& slot = SlotAt(index);
    return slot.used && slot.generation == generation ? slot.object() : nullptr;
  }

  // The object in a slot, null if it is free. REQUIRES: index < slots().
  T* At(uint32_t index) {
    Slot& slot = SlotAt(index);
    return slot.used ? slot.object() : nullptr;
  }

  size_t size() const { return size_; }
  // Slots there are, in use or free; their indices are 0 to slots() - 1.
  uint32_t slots() const { return static_cast<uint32_t>(chunks_.size() * kChunk); }

  // `visit(T&)` for every object in use; it may destroy the one it is given.
  template <typename Visit>
  void ForEach(Visit&& visit) {
    for (uint32_t index = 0; index < slots(); ++index)
      if (T* object = At(index)) visit(*object);
  }

 private:
  struct alignas(64) Slot {
    alignas(T) std::byte memory[sizeof(T)];
    uint32_t generation = 0;
    bool used = false;
    T* object() { return std::launder(reinterpret_cast<T*>(memory)); }
  };
  struct Chunk {
    Slot slots[kChunk];
  };

  Slot& SlotAt(uint32_t index) { return chunks_[index / kChunk]->slots[index % kChunk]; }

  void Grow() {
    auto first = static_cast<uint32_t>(chunks_.size() * kChunk);
    // Without value-initialisation the memory of a slot is touched when it is first used, not here.
    chunks_.push_back(std::unique_ptr<Chunk>(new Chunk));
    for (size_t i = kChunk; i > 0; --i) free_.push_back(first + static_cast<uint32_t>(i - 1));
  }

  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::vector<uint32_t> free_;
  size_t size_ = 0;
};

}  // namespace ringmain
