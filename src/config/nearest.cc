#include "config/nearest.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"

namespace ringmain {
namespace {

constexpr size_t kMaxListed = 20;  // names in a hint

}  // namespace

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);  // row[j]: the distance of a's first i bytes to b's first j
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string NearestHint(std::string_view name, const std::vector<std::string>& known) {
  RINGMAIN_CHECK(!known.empty());
  const std::string* nearest = nullptr;
  size_t nearest_distance = 0;
  for (const std::string& candidate : known) {
    size_t longer = std::max(name.size(), candidate.size());
    // The difference in length is a lower bound; it keeps a very long name from costing anything.
    if (longer - std::min(name.size(), candidate.size()) > longer / 2) continue;
    size_t distance = EditDistance(name, candidate);
    if (distance > longer / 2 || (nearest != nullptr && distance >= nearest_distance)) continue;
    nearest = &candidate;
    nearest_distance = distance;
  }
  if (nearest != nullptr) return absl::StrCat("did you mean '", *nearest, "'?");
  size_t listed = std::min(known.size(), kMaxListed);
  return absl::StrCat("known: ", absl::StrJoin(known.begin(), known.begin() + listed, ", "),
                      listed < known.size() ? ", ..." : "");
}

}  // namespace ringmain
