// Whatever comes as a PROXY protocol header: what is said of a beginning holds for the whole, and what is complete is composed and read again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/check.h"
#include "protocol/proxy_protocol.h"

namespace {

using ringmain::ParsedProxyHeader;
using Result = ParsedProxyHeader::Result;

// From memory of just that size, so that what is read beyond it shows.
ParsedProxyHeader ParseFirst(const char* data, size_t size) {
  std::unique_ptr<char[]> exact(new char[size]);
  std::copy_n(data, size, exact.get());
  return ringmain::ParseProxyHeader({exact.get(), size});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const char* data = reinterpret_cast<const char*>(bytes);
  ParsedProxyHeader whole = ringmain::ParseProxyHeader({data, size});
  // Every beginning that may decide something, and some more.
  for (size_t first = 0; first < size; first += first < 260 ? 1 : 97) {
    ParsedProxyHeader part = ParseFirst(data, first);
    if (part.result != Result::kNeedsMore) {
      RINGMAIN_CHECK(part.result == whole.result && part.length == whole.length);
    } else {
      RINGMAIN_CHECK(part.needs > 0);
      RINGMAIN_CHECK(whole.result != Result::kComplete || whole.length >= first + part.needs);
      RINGMAIN_CHECK(!part.begun || whole.result != Result::kNone);
    }
  }
  if (whole.result != Result::kComplete) return 0;
  RINGMAIN_CHECK(whole.length <= size && whole.length <= ringmain::kMostProxyHeader);
  for (uint8_t version : {uint8_t{1}, uint8_t{2}}) {
    whole.header.version = version;
    std::string composed = ringmain::ComposeProxyHeader(whole.header);
    ParsedProxyHeader again = ParseFirst(composed.data(), composed.size());
    RINGMAIN_CHECK(again.result == Result::kComplete && again.length == composed.size());
    if (version == 2) RINGMAIN_CHECK(ringmain::ComposeProxyHeader(again.header) == composed && again.header.tlvs == whole.header.tlvs);
  }
  return 0;
}
