// Report: the first broken rule of a run, and what led to it.
#pragma once

#include <deque>
#include <string>

#include "absl/strings/str_cat.h"

namespace ringmain::sim {

class Report {
 public:
  // Tracing costs; a run is repeated with it once it has failed (the same seed gives the same run).
  explicit Report(bool tracing = false) : tracing_(tracing) {}

  // Records a broken rule unless `holds`. Only the first one counts: what follows it may be its consequence.
  template <typename... Parts>
  bool Expect(bool holds, const Parts&... parts) {
    if (!holds && failure_.empty()) {
      failure_ = absl::StrCat(parts...);
      Trace("FAILED: ", failure_);
    }
    return holds;
  }
  template <typename... Parts>
  void Trace(const Parts&... parts) {
    if (!tracing_) return;
    if (lines_.size() == kMaxLines) lines_.pop_front();
    lines_.push_back(absl::StrCat(parts...));
  }

  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  std::string TraceText() const {
    std::string text;
    for (const std::string& line : lines_) absl::StrAppend(&text, "  ", line, "\n");
    return text;
  }

 private:
  static constexpr size_t kMaxLines = 300;
  bool tracing_;
  std::string failure_;
  std::deque<std::string> lines_;
};

}  // namespace ringmain::sim
