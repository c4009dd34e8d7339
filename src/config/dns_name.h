// Names of the DNS, as users write them for servers. Pure.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "config/config.h"

namespace ringmain {

// `db.example.org:5432`; of DnsType::kSrv `_pg._tcp.example.org`, without a port. Errors: InvalidArgument with a sentence that says what is
// wrong and shows a right form; an IP address is one.
absl::StatusOr<DnsNameConfig> ParseDnsName(std::string_view text, DnsType type);

}  // namespace ringmain
