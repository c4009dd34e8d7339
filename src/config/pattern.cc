#include "config/pattern.h"

#include <re2/re2.h>
#include <re2/stringpiece.h>

#include <utility>

#include "absl/status/status.h"

namespace ringmain {
namespace {

// Of the program and of what matching remembers; RE2's default is 8 MiB.
constexpr int64_t kMaxMemory = 1 << 20;

RE2::Options BytesOptions() {
  RE2::Options options;
  options.set_encoding(RE2::Options::EncodingLatin1);
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_max_mem(kMaxMemory);
  return options;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Pattern>> Pattern::Compile(const std::string& text) {
  auto compiled = std::make_unique<const RE2>(text, BytesOptions());
  if (!compiled->ok()) return absl::InvalidArgumentError(compiled->error());
  return std::shared_ptr<const Pattern>(new Pattern(std::move(compiled)));
}

Pattern::Pattern(std::unique_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {}

Pattern::~Pattern() = default;

bool Pattern::Matches(std::string_view bytes) const {
  return RE2::PartialMatch(re2::StringPiece(bytes.data(), bytes.size()), *compiled_);
}

}  // namespace ringmain
