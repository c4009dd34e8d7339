// Channel: messages with file descriptors between a process and its successor, over a SEQPACKET unix socket.
//
// Blocking, with a timeout for each message. One thread at a time. Whoever is at the other end is known by its credentials (SO_PEERCRED).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace ringmain {

enum class MessageType : uint8_t {
  kHello = 1,      // new: I could take over
  kOffer = 2,      // old: what I listen on, with the sockets
  kPause = 3,      // new: everything is ready, stop now
  kState = 4,      // old: the FrozenProcess, in a memory file
  kFiles = 5,      // old: the next file descriptors; each is acknowledged
  kAcknowledge = 6,
  kReady = 7,      // new: I hold all of it
  kCommit = 8,     // old: it is yours
  kServing = 9,    // new: I read and write now
  kAbort = 10,     // either: no; the reason is the body
  // In place of a kHello, from who is no successor.
  kUpgrade = 11,   // start one
  kUpgraded = 12,  // old: it serves; the body says so in a sentence
};

struct Message {
  MessageType type = MessageType::kAbort;
  std::string body;
  std::vector<UniqueFd> files;
};

// A file in memory that holds `content`, to be passed; and what such a file holds.
absl::StatusOr<UniqueFd> MemoryFile(std::string_view content);
absl::StatusOr<std::string> ReadMemoryFile(const UniqueFd& file);

class Channel {
 public:
  // A message takes so many at most (SCM_MAX_FD in include/net/scm.h is 253).
  static constexpr size_t kMaxFiles = 250;
  static constexpr size_t kMaxBody = 64 << 10;

  explicit Channel(UniqueFd socket);

  // Errors: Unavailable if the peer is gone, or has only closed the channel (PeerEndsWithin); Aborted, with its words, if it said so before;
  // DeadlineExceeded.
  absl::Status Send(MessageType type, std::string_view body = {}, std::span<const int> files = {}, Duration timeout = seconds(5));
  // Says that this takeover is off, and why.
  void Abort(const absl::Status& why) { (void)Send(MessageType::kAbort, std::string(why.message())); }
  // The next message. Errors: as above; Aborted, with the peer's words, for kAbort; Internal for anything that is no message.
  absl::StatusOr<Message> Receive(Duration timeout);
  // The same, and it must be of this type.
  absl::StatusOr<Message> Expect(MessageType type, Duration timeout);

  // Content of any size: what does not fit a message goes in a memory file.
  absl::Status SendContent(MessageType type, std::string_view content, Duration timeout = seconds(5));
  static absl::StatusOr<std::string> ContentOf(const Message& message);
  // In pieces, each acknowledged: the kernel bounds what a user may have on its way (RLIMIT_NOFILE).
  absl::Status SendFiles(std::span<const int> files);
  absl::StatusOr<std::vector<UniqueFd>> ReceiveFiles(size_t count);

  int fd() const { return socket_.get(); }
  // Of the process at the other end when it connected; none if it cannot be seen from here.
  std::optional<pid_t> peer() const;
  // Whether the process at the other end has ended, or does so within this time. A process that cannot be seen from here is taken to have ended.
  bool PeerEndsWithin(Duration timeout) const;
  // Whether the peer may be trusted with sessions: it is root or has our user.
  bool peer_is_trusted() const;

 private:
  absl::Status Wait(short events, TimePoint deadline);
  absl::Status WhyGone();

  UniqueFd socket_;
  UniqueFd peer_process_;  // a pidfd; not valid if there is none to be had
  bool peer_had_ended_ = false;  // when the channel was made
};

}  // namespace ringmain
