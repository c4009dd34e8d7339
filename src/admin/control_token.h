// The token that admin.token_file holds: who shows it may control the process. It is a secret: it is in no log line, status or error.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ringmain {

inline constexpr size_t kLeastToken = 16;  // characters
inline constexpr size_t kMostToken = 1024;

// Spaces and line ends around the token are not part of it. The file must be this process's user's or root's, nobody else may write it, and
// users who are neither its owner nor of its group may not read it: a secret volume of Kubernetes with an fsGroup is readable by the group.
// Errors: InvalidArgument, one line with the path and what to do.
absl::StatusOr<std::string> ReadControlToken(const std::string& path);

// Whether the Authorization header is `Bearer TOKEN` (RFC 6750, 2.1). Takes as long whichever characters are wrong. False if `token` is empty.
bool ShowsToken(std::string_view authorization, std::string_view token);

}  // namespace ringmain
