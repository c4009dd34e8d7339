#include "takeover/channel.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

constexpr Duration kStepTimeout = seconds(5);

// Before the body; the marker tells our messages from anything else that may be written to the socket.
struct Header {
  char marker[4] = {'r', 'm', 't', 'o'};
  uint8_t type = 0;
  uint8_t reserved[3] = {};
};
static_assert(sizeof(Header) == 8);

ucred PeerOf(int socket) {
  ucred peer{0, static_cast<uid_t>(-1), static_cast<gid_t>(-1)};
  socklen_t length = sizeof(peer);
  getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length);
  return peer;
}

}  // namespace

absl::StatusOr<UniqueFd> MemoryFile(std::string_view content) {
  UniqueFd file(memfd_create("ringmain-takeover", MFD_CLOEXEC));
  if (!file.valid()) return absl::ErrnoToStatus(errno, "memfd_create");
  while (!content.empty()) {
    ssize_t written = write(file.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return absl::ErrnoToStatus(errno, "no memory for the state of all sessions");
    content.remove_prefix(static_cast<size_t>(written));
  }
  return file;
}

absl::StatusOr<std::string> ReadMemoryFile(const UniqueFd& file) {
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return absl::ErrnoToStatus(errno, "fstat");
  std::string content(static_cast<size_t>(info.st_size), '\0');
  for (size_t done = 0; done < content.size();) {
    ssize_t count = pread(file.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return absl::ErrnoToStatus(errno, "pread");
    done += static_cast<size_t>(count);
  }
  return content;
}

absl::Status Channel::Wait(short events, TimePoint deadline) {
  while (true) {
    auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return absl::DeadlineExceededError("the other process does not answer");
    pollfd file{socket_.get(), events, 0};
    int ready = poll(&file, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
  }
}

absl::Status Channel::Send(MessageType type, std::string_view body, std::span<const int> files, Duration timeout) {
  Header header;
  header.type = static_cast<uint8_t>(type);
  iovec parts[] = {{&header, sizeof(header)}, {const_cast<char*>(body.data()), body.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFiles * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (!files.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(files.size_bytes());
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(files.size_bytes());
    std::memcpy(CMSG_DATA(part), files.data(), files.size_bytes());
  }
  TimePoint deadline = Clock::now() + timeout;
  while (sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET) return WhyGone();
    if (errno != EAGAIN) return absl::ErrnoToStatus(errno, "sendmsg");
    if (absl::Status status = Wait(POLLOUT, deadline); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The peer takes no more. What it said before may be an abort.
absl::Status Channel::WhyGone() {
  absl::StatusOr<Message> message = Receive(seconds(1));
  while (message.ok()) message = Receive(seconds(1));
  return message.status();
}

absl::StatusOr<Message> Channel::Receive(Duration timeout) {
  TimePoint deadline = Clock::now() + timeout;
  Header header;
  std::string body(kMaxBody, '\0');
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFiles * sizeof(int))];
  iovec parts[] = {{&header, sizeof(header)}, {body.data(), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length;
  bool reset = false;
  while ((length = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EINTR) continue;
    // It closed the channel with something unread: told once, before what it said itself.
    if (errno == ECONNRESET && !std::exchange(reset, true)) continue;
    if (errno == ECONNRESET) return absl::UnavailableError("the other process is gone");
    if (errno != EAGAIN) return absl::ErrnoToStatus(errno, "recvmsg");
    if (absl::Status status = Wait(POLLIN, deadline); !status.ok()) return status;
  }
  Message result;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      result.files.emplace_back(fd);
    }
  }
  if (length == 0) return absl::UnavailableError("the other process is gone");
  bool whole = static_cast<size_t>(length) >= sizeof(header) && (message.msg_flags & MSG_TRUNC) == 0;
  if (!whole || std::memcmp(header.marker, Header().marker, sizeof(header.marker)) != 0)
    return absl::InternalError("what came is no message of a takeover");
  // The kernel leaves out what there is no file descriptor for.
  if ((message.msg_flags & MSG_CTRUNC) != 0)
    return absl::ResourceExhaustedError("no file descriptor left for what the other process passes; raise the limit (ulimit -n)");
  body.resize(static_cast<size_t>(length) - sizeof(header));
  result.type = static_cast<MessageType>(header.type);
  result.body = std::move(body);
  if (result.type == MessageType::kAbort) return absl::AbortedError(result.body);
  return result;
}

absl::StatusOr<Message> Channel::Expect(MessageType type, Duration timeout) {
  absl::StatusOr<Message> message = Receive(timeout);
  if (message.ok() && message->type != type)
    return absl::InternalError(absl::StrCat("message ", static_cast<int>(message->type), " where ", static_cast<int>(type), " was due"));
  return message;
}

absl::Status Channel::SendContent(MessageType type, std::string_view content, Duration timeout) {
  if (content.size() <= kMaxBody) return Send(type, content, {}, timeout);
  absl::StatusOr<UniqueFd> file = MemoryFile(content);
  if (!file.ok()) return file.status();
  const int files[] = {file->get()};
  return Send(type, {}, files, timeout);
}

absl::StatusOr<std::string> Channel::ContentOf(const Message& message) {
  if (message.files.empty()) return message.body;
  return ReadMemoryFile(message.files[0]);
}

absl::Status Channel::SendFiles(std::span<const int> files) {
  while (!files.empty()) {
    std::span<const int> piece = files.first(std::min(files.size(), kMaxFiles));
    if (absl::Status status = Send(MessageType::kFiles, {}, piece); !status.ok()) return status;
    if (auto answer = Expect(MessageType::kAcknowledge, kStepTimeout); !answer.ok()) return answer.status();
    files = files.subspan(piece.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<UniqueFd>> Channel::ReceiveFiles(size_t count) {
  std::vector<UniqueFd> files;
  while (files.size() < count) {
    absl::StatusOr<Message> message = Expect(MessageType::kFiles, kStepTimeout);
    if (!message.ok()) return message.status();
    if (message->files.empty() || files.size() + message->files.size() > count)
      return absl::InternalError(absl::StrCat(message->files.size(), " file descriptors where ", count - files.size(), " were due"));
    std::move(message->files.begin(), message->files.end(), std::back_inserter(files));
    if (absl::Status status = Send(MessageType::kAcknowledge); !status.ok()) return status;
  }
  return files;
}

bool Channel::PeerEndsWithin(Duration timeout) const {
  if (!peer().has_value()) return true;
  if (!peer_process_.valid()) return peer_had_ended_;
  pollfd file{peer_process_.get(), POLLIN, 0};
  TimePoint deadline = Clock::now() + timeout;
  while (true) {
    auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    if (poll(&file, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 60'000))) > 0) return true;
    if (left <= 0) return false;
  }
}

Channel::Channel(UniqueFd socket) : socket_(std::move(socket)) {
  std::optional<pid_t> process = peer();
  if (!process.has_value()) return;
  peer_process_.reset(static_cast<int>(syscall(SYS_pidfd_open, *process, 0)));
  peer_had_ended_ = !peer_process_.valid() && errno == ESRCH;
}

std::optional<pid_t> Channel::peer() const {
  pid_t pid = PeerOf(socket_.get()).pid;
  return pid > 0 ? std::optional(pid) : std::nullopt;
}

bool Channel::peer_is_trusted() const {
  uid_t user = PeerOf(socket_.get()).uid;
  return user == 0 || user == geteuid();
}

}  // namespace ringmain
