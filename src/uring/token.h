// Token: what the 64 bits of user_data say, so that a completion finds its owner and a stale one is noticed.
#pragma once

#include <cstdint>

namespace ringmain {

enum class Op : uint8_t {
  kNone,
  // of the worker's loop
  kAccept,
  kTimer,
  kWake,
  // of a session
  kConnect,
  kReceiveFromClient,
  kReceiveFromServer,
  kSendToServer,
  kSendToClient,
  // of the health prober
  kProbe,
  // the completion of a request about another one (cancel, move a timeout); nobody waits for it
  kCancel,
};

// 8 bits of operation, 24 of generation, 32 of index. The generation is the slot's at the time the operation was armed: a
// completion whose generation is not the slot's any more belongs to a predecessor and is dropped.
struct Token {
  static constexpr uint32_t kGenerationMask = 0xffffff;

  Op op = Op::kNone;
  uint32_t generation = 0;
  uint32_t index = 0;

  uint64_t Pack() const {
    return static_cast<uint64_t>(op) << 56 | static_cast<uint64_t>(generation & kGenerationMask) << 32 | index;
  }
  static Token Unpack(uint64_t packed) {
    return {static_cast<Op>(packed >> 56), static_cast<uint32_t>(packed >> 32) & kGenerationMask,
            static_cast<uint32_t>(packed)};
  }
  friend bool operator==(const Token&, const Token&) = default;
};

// One completion queue entry, decoded.
struct Completion {
  Token token;
  int32_t result = 0;         // >= 0, or -errno
  bool more = false;          // the operation is still armed; false means this is its final completion, never "closed"
  bool has_buffer = false;    // `buffer` holds `result` bytes and is the receiver's to give back
  bool socket_nonempty = false;  // the kernel saw more to read when it completed this
  uint16_t buffer = 0;
};

}  // namespace ringmain
