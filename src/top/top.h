// `ringmain top`: shows what a running ringmain does, by asking its admin address. It knows nothing of ringmain but the API.
//
// On a terminal it is live: views, sorting, a filter (controls.h). Elsewhere it prints text or JSON, for each refresh. One thread, which waits for nothing but
// poll: keys are obeyed while an answer is on its way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"

namespace ringmain::top {

inline constexpr milliseconds kLeastInterval{100};
inline constexpr milliseconds kMostInterval{3600'000};
inline constexpr uint32_t kMostSessions = 10'000;  // the API lists no more

struct Options {
  std::string admin;       // host:port
  std::string token_file;  // empty: no token is sent
  milliseconds interval{1000};
  std::vector<std::string> views;  // empty: listeners on a terminal, all but sessions elsewhere
  std::string sort;                // the key of a column; empty: as usual
  std::string filter;
  uint32_t sessions = 1000;  // to ask for, if they are shown
  bool once = false;         // print one report, as soon as there are two samples, and end
  bool json = false;         // print JSON
};

// Runs until the user quits, or a report is printed that was all that was wanted. Errors: a sentence; InvalidArgument if it is the options' fault. The first answer
// must come; later ones that do not are shown, and asked for again.
absl::Status Run(const Options& options);

}  // namespace ringmain::top
