// StatusClient: asks a ringmain for its status, over and over, without ever waiting.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "top/sample.h"

namespace ringmain::top {

// One request at a time, each on a connection of its own. Not thread-safe.
class StatusClient {
 public:
  static constexpr Duration kTimeout = seconds(5);      // without any progress
  static constexpr size_t kMostBytes = 64 << 20;        // of an answer; 10,000 sessions take some 6 MB

  // `admin` is as a user writes it; a host name is looked up here, once, which may take its time. `token_file` may be empty; it is read for each request,
  // so that the token may change. Errors: InvalidArgument if that is no address, else Unavailable; a sentence.
  static absl::StatusOr<StatusClient> Create(std::string admin, std::string token_file);

  // Begins a request for up to `sessions` sessions. REQUIRES: not busy().
  void Ask(uint32_t sessions, TimePoint now);
  bool busy() const { return state_ != State::kIdle; }

  // What to poll for while it is busy, and until when at most. -1: nothing, go on at once.
  int fd() const { return fd_.get(); }
  short events() const;
  TimePoint deadline() const { return deadline_; }

  // To be called when any of that has come. An answer, or why there is none (a sentence), ends the request; none: go on polling.
  std::optional<absl::StatusOr<Sample>> Proceed(TimePoint now);

  const std::string& admin() const { return admin_; }

 private:
  enum class State {
    kIdle,
    kConnecting,  // to addresses_[address_]
    kSending,     // request_ from sent_
    kReceiving,   // response_
  };

  StatusClient(std::string admin, std::string token_file, std::vector<SocketAddress> addresses)
      : admin_(std::move(admin)), token_file_(std::move(token_file)), addresses_(std::move(addresses)) {}

  absl::Status Connect(TimePoint now);
  absl::Status ConnectNext(absl::Status failure, TimePoint now);
  absl::StatusOr<bool> Step(TimePoint now);
  absl::StatusOr<bool> Send(TimePoint now);
  absl::StatusOr<bool> Receive(TimePoint now);
  absl::Status Failure(int error) const;

  std::string admin_;
  std::string token_file_;
  std::vector<SocketAddress> addresses_;

  State state_ = State::kIdle;
  absl::Status begun_;  // why Ask failed
  size_t address_ = 0;
  UniqueFd fd_;
  TimePoint deadline_;
  TimePoint asked_at_;
  std::string request_;
  size_t sent_ = 0;
  std::string response_;
};

}  // namespace ringmain::top
