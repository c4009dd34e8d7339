// Whatever is in a configuration file: it is a valid configuration, or there are errors with places in the file.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/str_split.h"
#include "base/check.h"
#include "config/config.h"
#include "config/diff.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(bytes), size);
  auto config = ringmain::LoadText(text, "f");
  if (config.ok()) {
    RINGMAIN_CHECK(!(*config)->listeners.empty() && !(*config)->upstreams.empty());
    RINGMAIN_CHECK(ringmain::DescribeChanges(**config, **config).empty());
    return 0;
  }
  std::string message(config.status().message());
  RINGMAIN_CHECK(!message.empty());
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(message, '\n'))) RINGMAIN_CHECK(line.compare(0, 2, "f:") == 0);
  return 0;
}
