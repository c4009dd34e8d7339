// Comma-separated lists of addresses on the command line.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"

namespace ringmain::loadtest {

// `127.0.0.1:7001,[::1]:7001,unix:/run/x.sock`: at least one. Errors: InvalidArgument, one sentence.
absl::StatusOr<std::vector<SocketAddress>> ParseAddressList(std::string_view text);

// `127.0.0.2,127.0.0.3` or IPv6 addresses, without ports (a port 0 is put in). Errors: InvalidArgument, one sentence.
absl::StatusOr<std::vector<SocketAddress>> ParseHostList(std::string_view text);

}  // namespace ringmain::loadtest
