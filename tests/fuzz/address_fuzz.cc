// Whatever is written as an address or a network: it is refused with a sentence, or is printed in a form that is read as the same.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/network.h"
#include "base/socket_address.h"

using ringmain::Network;
using ringmain::SocketAddress;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(bytes), size);
  if (absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text); address.ok()) {
    absl::StatusOr<SocketAddress> again = SocketAddress::Parse(address->ToString());
    RINGMAIN_CHECK(again.ok() && *again == *address);
    RINGMAIN_CHECK(Network().Contains(*address));
  } else {
    RINGMAIN_CHECK(!address.status().message().empty());
  }
  if (absl::StatusOr<SocketAddress> host = SocketAddress::ParseHost(text); host.ok()) {
    absl::StatusOr<SocketAddress> again = SocketAddress::ParseHost(host->host());
    RINGMAIN_CHECK(again.ok() && *again == *host);
    absl::StatusOr<Network> alone = Network::Parse(host->host());
    RINGMAIN_CHECK(alone.ok() && alone->Contains(*host));
  }
  if (absl::StatusOr<Network> network = Network::Parse(text); network.ok()) {
    absl::StatusOr<Network> again = Network::Parse(network->ToString());
    RINGMAIN_CHECK(again.ok() && *again == *network);
  }
  return 0;
}
