// Pattern: a regular expression in RE2's syntax, over bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace re2 {
class RE2;
}

namespace ringmain {

// Immutable; thread-safe. Matching takes time in proportion to the bytes, whatever the pattern, and bounded memory. A byte is a character:
// `.` matches each but the line end, `\xff` is the byte 255, and text in UTF-8 matches the bytes that it is made of.
class Pattern {
 public:
  // Errors: InvalidArgument that says what is wrong with `text`, in RE2's words.
  static absl::StatusOr<std::shared_ptr<const Pattern>> Compile(const std::string& text);
  ~Pattern();
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  // Whether it matches anywhere in `bytes`.
  bool Matches(std::string_view bytes) const;

 private:
  explicit Pattern(std::unique_ptr<const re2::RE2> compiled);

  const std::unique_ptr<const re2::RE2> compiled_;
};

}  // namespace ringmain
