// Exchange: what a health check says to a server, and what it makes of the answer.
//
//   tcp          nothing is said, and no answer awaited: to be connected is enough
//   send_expect  `send`, if any; then the answer must have `expect` in it, or match the pattern; with neither, it must have a byte
//   http         a request of HTTP/1.0; only the status line of the answer matters
//
// Pure and immutable; its owner does the sending and receiving.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/socket_address.h"
#include "config/config.h"
#include "config/pattern.h"

namespace ringmain {

class Exchange {
 public:
  // So much of an answer is looked at.
  static constexpr size_t kMaxAnswer = 16 << 10;

  enum class Verdict { kMore, kGood, kBad };

  // With the server at `server`. `prologue` is sent before all else. `pattern` is check->expect_pattern; null if that is empty.
  Exchange(std::shared_ptr<const HealthCheckConfig> check, const SocketAddress& server, std::string_view prologue,
           std::shared_ptr<const Pattern> pattern);

  // Where to connect to: what the check says in place of the server's own address or port.
  const SocketAddress& address() const { return address_; }
  static SocketAddress AddressOf(const HealthCheckConfig& check, const SocketAddress& server);

  // All that is to be sent, before an answer is awaited; may be empty.
  const std::string& request() const { return request_; }
  bool wants_answer() const { return check_->type != HealthCheckType::kTcp; }

  // Of what came so far, of which `seen` bytes were judged before. kBad: `reason` says why. Never kMore of kMaxAnswer bytes.
  // REQUIRES: wants_answer(); !answer.empty().
  Verdict Judge(std::string_view answer, size_t seen, std::string& reason) const;
  // What an answer that ends here, or is late, has not: "an answer".
  std::string_view Lacking(std::string_view answer) const;

 private:
  Verdict JudgeStatus(std::string_view answer, std::string& reason) const;
  bool Matches(std::string_view answer, size_t seen) const;
  bool IsGood(uint32_t status) const;

  const std::shared_ptr<const HealthCheckConfig> check_;
  const SocketAddress address_;
  const std::shared_ptr<const Pattern> pattern_;
  std::string request_;
};

}  // namespace ringmain
