// The old process's side of a takeover: offers what it listens on, stands still, passes everything, and leaves; or goes on as if nothing had
// been.
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "log/log.h"
#include "process/process.h"
#include "process/service_manager.h"
#include "takeover/frozen_metrics.h"
#include "takeover/offer.h"

namespace ringmain {
namespace {

constexpr Duration kPrepareTimeout = seconds(20);  // for the successor to get ready
constexpr Duration kStepTimeout = seconds(10);

// Until the process is gone; at once if it cannot be seen.
void WaitForEndOf(std::optional<pid_t> process) {
  if (!process.has_value()) return;
  UniqueFd watched(static_cast<int>(syscall(SYS_pidfd_open, *process, 0)));
  pollfd file{watched.get(), POLLIN, 0};
  while (watched.valid() && poll(&file, 1, -1) < 0) {
  }
}

// Replaces file descriptors by their places in `files`.
void Place(FrozenSession& session, std::vector<int>& files) {
  ForEachFile(session, [&files](int& fd) {
    files.push_back(fd);
    fd = static_cast<int>(files.size() - 1);
  });
}

FrozenRoute ToFrozen(const ListenerRoute& route, std::optional<uint16_t> server) {
  auto whole = [](Duration timeout) { return std::chrono::duration_cast<milliseconds>(timeout); };
  return {route.names->listener,
          route.names->upstream,
          server.has_value() ? route.names->servers.at(*server) : "",
          whole(route.idle_timeout),
          whole(route.half_closed_timeout),
          route.keepalive,
          whole(route.side_idle_timeouts[0]),
          whole(route.side_idle_timeouts[1]),
          whole(route.max_lifetime),
          route.lifetime_jitter_percent};
}

}  // namespace

// True as HandOver.
bool Process::Answer(Channel channel) {
  absl::StatusOr<Message> message = channel.Receive(kStepTimeout);
  if (message.ok() && message->type == MessageType::kHello) return HandOver(std::move(channel), message->body);
  if (message.ok() && message->type == MessageType::kUpgrade) {
    BeginUpgrade(std::move(channel));
    return false;
  }
  absl::Status status = message.ok() ? absl::InternalError("what came is neither a takeover nor an upgrade") : message.status();
  Log(LogLevel::kWarn, "takeover did not begin: ", std::string(status.message()));
  channel.Abort(status);
  return false;
}

void Process::BeginUpgrade(Channel channel) {
  if (upgrade_ != nullptr) {
    channel.Abort(absl::FailedPreconditionError("an upgrade is under way already"));
    return;
  }
  Log(LogLevel::kInfo, "upgrading: starting ", successor_command_[0]);
  absl::StatusOr<std::unique_ptr<Upgrade>> upgrade = Upgrade::Begin(channel, successor_command_);
  if (upgrade.ok()) {
    upgrade_ = *std::move(upgrade);
    return;
  }
  std::string why = absl::StrCat(std::string(upgrade.status().message()), "; the running process goes on");
  Log(LogLevel::kError, "upgrade failed: ", why);
  channel.Abort(absl::FailedPreconditionError(why));
}

// True if the successor serves now: nothing is left to do but to leave.
bool Process::HandOver(Channel channel, std::string_view hello) {
  absl::Status status = OfferListening(channel, hello);
  if (!status.ok()) {
    Log(LogLevel::kWarn, "takeover did not begin: ", std::string(status.message()));
    channel.Abort(status);
    return false;
  }
  Log(LogLevel::kInfo, "handing over sessions=", workers_.sessions());
  old_admin_.clear();
  requests_.Close();  // whose answers the admin side may wait for
  admin_.reset();     // the successor needs the address
  TimePoint paused = Clock::now();
  status = PassSessions(channel);
  if (status.ok()) status = channel.Send(MessageType::kCommit);
  if (!status.ok()) {
    channel.Abort(status);
    Log(LogLevel::kError, "takeover failed, going on: ", std::string(status.message()));
    GoOn(/*cut=*/false);
    return false;
  }
  // From here on the sessions are the other's, whatever happens.
  absl::StatusOr<Message> serving;
  do
    serving = channel.Receive(kStepTimeout);
  while (absl::IsDeadlineExceeded(serving.status()));
  if (!serving.ok() || serving->type != MessageType::kServing) {
    WaitForEndOf(channel.peer());
    Log(LogLevel::kError, "the process that took over has died before it served: its sessions are lost");
    GoOn(/*cut=*/true);
    return false;
  }
  auto pause = std::chrono::duration_cast<milliseconds>(Clock::now() - paused);
  Log(LogLevel::kInfo, "handed over sessions=", workers_.sessions(), " pause_ms=", pause.count());
  successor_ = channel.peer();
  if (upgrade_ != nullptr) upgrade_->Succeeded(successor_, workers_.sessions(), pause);
  owns_listening_ = false;
  takeover_socket_->LetGo();
  LetSessionsGo();
  workers_.Post(Worker::kStopAccepting | Worker::kFinish);
  return true;
}

absl::Status Process::OfferListening(Channel& channel, std::string_view hello) {
  if (absl::Status status = CheckHello(hello); !status.ok()) return status;
  Offer offer;
  std::vector<int> files;
  for (const std::vector<ListenTable::Entry>& entries : listening_.entries())
    for (const ListenTable::Entry& entry : entries) {
      const ListeningSockets& sockets = entry.sockets;
      offer.listening.push_back({entry.listener, entry.configured.ToString(), sockets.address.ToString(),
                                 static_cast<uint32_t>(sockets.sockets.size()), sockets.device, sockets.inode});
      for (const auto& socket : sockets.sockets) files.push_back(socket->fd.get());
    }
  if (absl::Status status = channel.SendContent(MessageType::kOffer, Encode(offer)); !status.ok()) return status;
  if (absl::Status status = channel.SendFiles(files); !status.ok()) return status;
  return channel.Expect(MessageType::kPause, kPrepareTimeout).status();
}

absl::Status Process::PassSessions(Channel& channel) {
  // First no worker accepts, so that none is handed a client while it stands still.
  workers_.Apply([this](uint32_t, bool) {
    WorkerUpdate update = BeginUpdate();
    update.accept_from.emplace();
    return update;
  });
  std::vector<std::vector<SavedSession>> saved(worker_cells_.size());
  workers_.Apply([&](uint32_t worker, bool) {
    WorkerUpdate update = BeginUpdate();
    update.freeze_into = &saved[worker];
    return update;
  });
  FrozenProcess process;
  topology_.Freeze(process, Clock::now());
  overrides_.Freeze(process);
  FreezeNames(process);
  process.reloads = Freeze(reload_cells_);
  for (size_t i = 0; i < worker_cells_.size(); ++i) process.workers.push_back(Freeze(worker_cells_[i]));
  std::vector<int> files;
  std::map<std::pair<const ListenerRoute*, std::optional<uint16_t>>, size_t> routes;
  for (std::vector<SavedSession>& of_worker : saved)
    for (SavedSession& one : of_worker) {
      auto [found, added] = routes.try_emplace({one.route, one.server}, process.routes.size());
      if (added) process.routes.push_back(ToFrozen(*one.route, one.server));
      Place(one.session, files);
      process.sessions.push_back({found->second, std::move(one.session)});
    }
  absl::StatusOr<UniqueFd> memory = MemoryFile(Encode(process));
  if (!memory.ok()) return memory.status();
  const int state[] = {memory->get()};
  if (absl::Status status = channel.Send(MessageType::kState, absl::StrCat(files.size()), state); !status.ok()) return status;
  if (absl::Status status = channel.SendFiles(files); !status.ok()) return status;
  return channel.Expect(MessageType::kReady, kStepTimeout).status();
}

// Whoever told us to end, or to reload, since, means the one that serves.
void Process::ForwardSignals() {
  while (int signal = ReadSignal())
    if (successor_.has_value()) kill(*successor_, signal);
}

// To a process that ends there is no successor.
void Process::TurnAway(Channel channel) {
  (void)channel.Receive(milliseconds(100));  // what is left unread would keep it from reading the answer
  (void)channel.Send(MessageType::kAbort, "the process is ending already");
}

// To the process that has their sockets as well: nothing is done to those.
void Process::LetSessionsGo() {
  workers_.Apply([this](uint32_t, bool) {
    WorkerUpdate update = BeginUpdate();
    update.let_go = true;
    return update;
  });
}

// As before; `cut` tells that the sessions are lost, with a process that had been announced.
void Process::GoOn(bool cut) {
  if (cut) NotifyMainProcess();
  workers_.Apply([&](uint32_t worker, bool) {
    WorkerUpdate update = BeginUpdate();
    update.cut_lost = cut;
    update.thaw = true;
    update.accept_from = AcceptancesOf(worker);
    return update;
  });
  requests_.Open();
  OpenAdminAgain();
}

}  // namespace ringmain
