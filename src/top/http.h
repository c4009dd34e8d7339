// The little HTTP that asking for the status takes. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ringmain::top {

// A request for the status with up to `sessions` sessions. HTTP/1.0: the answer ends where the connection ends, and is never cut into chunks.
// `token` may be empty. REQUIRES: `host` and `token` are printable ASCII without spaces.
std::string StatusRequest(std::string_view host, uint32_t sessions, std::string_view token);

// The body of an answer that is all here. Errors: a sentence, printable, that says what to do about it if the answer tells.
absl::StatusOr<std::string_view> BodyOf(std::string_view response);

// The token in a file's contents: what is there but for white space round it. Errors: a sentence that begins with `file`.
absl::StatusOr<std::string> TokenOf(std::string_view contents, std::string_view file);

}  // namespace ringmain::top
