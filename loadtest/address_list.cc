#include "loadtest/address_list.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ringmain::loadtest {

absl::StatusOr<std::vector<SocketAddress>> ParseAddressList(std::string_view text) {
  std::vector<SocketAddress> addresses;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(std::string(text), ','))) {
    absl::StatusOr<SocketAddress> address = SocketAddress::Parse(part);
    if (!address.ok()) return address.status();
    addresses.push_back(*address);
  }
  return addresses;
}

absl::StatusOr<std::vector<SocketAddress>> ParseHostList(std::string_view text) {
  std::vector<SocketAddress> addresses;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(std::string(text), ','))) {
    bool bare_ipv6 = part.find(':') != std::string::npos && part.front() != '[';
    absl::StatusOr<SocketAddress> address =
        SocketAddress::Parse(bare_ipv6 ? absl::StrCat("[", part, "]:0") : part + ":0");
    if (!address.ok() || address->is_unix())
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "' is not an IP address; write it like 127.0.0.2 or ::1"));
    addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace ringmain::loadtest
