// What the two processes tell each other before anything moves.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace ringmain {

// Both sides say which versions of the messages they speak; the newest that both do is spoken. A version changes when a reader of the last one
// could not go on by skipping what it does not know.
inline constexpr uint32_t kTakeoverVersion = 1;
inline constexpr uint32_t kOldestTakeoverVersion = 1;

// The body of a kHello.
std::string EncodeHello();
// Errors: there is no version that both speak, in a sentence.
absl::Status CheckHello(std::string_view body);

struct Offer {
  struct Listening {
    std::string listener;
    std::string configured;  // the address as in the configuration
    std::string bound;
    uint32_t sockets = 0;
    dev_t device = 0;  // of a unix address: what its path names
    ino_t inode = 0;
  };
  std::vector<Listening> listening;  // their sockets are passed in this order
};

std::string Encode(const Offer& offer);
// None if `body` is not what Encode makes.
std::optional<Offer> DecodeOffer(std::string_view body);

}  // namespace ringmain
