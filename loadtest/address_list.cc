#include "loadtest/address_list.h"

#include <string>

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
    absl::StatusOr<SocketAddress> address = SocketAddress::ParseHost(part);
    if (!address.ok()) return address.status();
    addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace ringmain::loadtest
