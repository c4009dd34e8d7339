#include "health/exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ringmain {
namespace {

constexpr std::string_view kHttp = "HTTP/";
constexpr size_t kMaxVersion = 8;
constexpr size_t kStatusDigits = 3;

// Only HTTP/1.0 lets the server choose how the answer ends, and it is not read to its end anyway.
std::string HttpRequest(const HealthCheckConfig& check, const SocketAddress& address) {
  std::string host = check.host;
  if (host.empty()) host = address.is_unix() ? "localhost" : address.ToString();
  std::string request = absl::StrCat(check.method, " ", check.path, " HTTP/1.0\r\nHost: ", host,
                                     "\r\nUser-Agent: ringmain/" RINGMAIN_VERSION "\r\nAccept: */*\r\nConnection: close\r\n");
  if (check.method == "POST" || check.method == "PUT" || check.method == "PATCH") request += "Content-Length: 0\r\n";
  request += "\r\n";
  return request;
}

// A status line such as `HTTP/1.1 200 OK`. The status is 0 as long as it is not known.
Exchange::Verdict ParseStatusLine(std::string_view answer, uint32_t& status) {
  using Verdict = Exchange::Verdict;
  std::string_view head = answer.substr(0, kHttp.size());
  if (head != kHttp.substr(0, head.size())) return Verdict::kBad;
  answer.remove_prefix(head.size());
  size_t version = answer.find_first_not_of("0123456789.");
  if (version == std::string_view::npos) return answer.size() > kMaxVersion ? Verdict::kBad : Verdict::kMore;
  if (version == 0 || version > kMaxVersion || answer[version] != ' ') return Verdict::kBad;
  answer.remove_prefix(version + 1);
  size_t digits = 0;
  uint32_t number = 0;
  for (; digits < answer.size() && digits < kStatusDigits; ++digits) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(answer[digits]))) return Verdict::kBad;
    number = number * 10 + static_cast<uint32_t>(answer[digits] - '0');
  }
  if (digits == answer.size()) return Verdict::kMore;
  if (std::string_view(" \r\n").find(answer[digits]) == std::string_view::npos) return Verdict::kBad;
  status = number;
  return Verdict::kGood;
}

}  // namespace

Exchange::Exchange(std::shared_ptr<const HealthCheckConfig> check, const SocketAddress& server, std::string_view prologue,
                   std::shared_ptr<const Pattern> pattern)
    : check_(std::move(check)),
      address_(AddressOf(*check_, server)),
      pattern_(std::move(pattern)),
      request_(prologue) {
  RINGMAIN_CHECK((pattern_ == nullptr) == check_->expect_pattern.empty());
  if (check_->type == HealthCheckType::kSendExpect) request_ += check_->send;
  if (check_->type == HealthCheckType::kHttp) request_ += HttpRequest(*check_, address_);
}

SocketAddress Exchange::AddressOf(const HealthCheckConfig& check, const SocketAddress& server) {
  if (check.address.has_value()) return *check.address;
  SocketAddress address = server;
  if (check.port.has_value() && !address.is_unix()) address.set_port(*check.port);
  return address;
}

Exchange::Verdict Exchange::Judge(std::string_view answer, size_t seen, std::string& reason) const {
  if (check_->type == HealthCheckType::kHttp) return JudgeStatus(answer, reason);
  if (Matches(answer, seen)) return Verdict::kGood;
  if (answer.size() < kMaxAnswer) return Verdict::kMore;
  reason = absl::StrCat("no match in the first ", kMaxAnswer >> 10, " KiB");
  return Verdict::kBad;
}

bool Exchange::Matches(std::string_view answer, size_t seen) const {
  if (pattern_ != nullptr) return pattern_->Matches(answer);
  // A match may have begun in what was seen.
  size_t length = check_->expect.size();
  size_t from = seen >= length && length > 0 ? seen - (length - 1) : 0;
  return answer.find(check_->expect, from) != std::string_view::npos;
}

Exchange::Verdict Exchange::JudgeStatus(std::string_view answer, std::string& reason) const {
  uint32_t status = 0;
  Verdict verdict = ParseStatusLine(answer, status);
  if (verdict == Verdict::kBad) {
    reason = "the answer is not HTTP";
  } else if (verdict == Verdict::kGood && !IsGood(status)) {
    reason = absl::StrCat("status ", status);
    verdict = Verdict::kBad;
  }
  return verdict;
}

bool Exchange::IsGood(uint32_t status) const {
  return std::any_of(check_->statuses.begin(), check_->statuses.end(),
                     [status](const auto& range) { return range.first <= status && status <= range.last; });
}

std::string_view Exchange::Lacking(std::string_view answer) const {
  if (answer.empty()) return "an answer";
  return check_->type == HealthCheckType::kHttp ? "a whole status line" : "a match";
}

}  // namespace ringmain
