// The body of POST /api/v1/servers, read. Pure.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "admin/admin_server.h"

namespace ringmain {

// Errors: InvalidArgument with a sentence that says what is wrong and what may be written.
absl::StatusOr<ServerChange> ParseServerChange(std::string_view body);

}  // namespace ringmain
