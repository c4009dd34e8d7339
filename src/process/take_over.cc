// The new process's side of a takeover: gets ready while the other still serves, receives everything, and serves when it is told to.
#include <charconv>
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

constexpr Duration kStepTimeout = seconds(10);
constexpr Duration kEndTimeout = seconds(5);     // for a process that has closed its files to be gone
constexpr Duration kPauseTimeout = seconds(30);  // the other closes its admin side and stands still

// Places in `files` become the file descriptors, which are the session's now.
void TakeFiles(FrozenSession& session, std::vector<UniqueFd>& files) {
  ForEachFile(session, [&files](int& place) { place = files[static_cast<size_t>(place)].release(); });
}

// That the channel has ended proves nothing: only if the other process has, what it had is ours.
absl::Status UnlessAlive(const Channel& channel, const absl::Status& status) {
  if (!absl::IsUnavailable(status) || channel.PeerEndsWithin(kEndTimeout)) return status;
  return absl::InternalError("the other process has ended the takeover, and lives");
}

}  // namespace

absl::Status Process::TakeOver(Channel& channel) {
  absl::Status status = UnlessAlive(channel, InheritListening(channel));
  if (!status.ok()) return status;  // Unavailable: nothing was passed
  Prepared prepared{config_, {}};
  status = Prepare(prepared);
  if (!status.ok()) {
    channel.Abort(status);
    return status;
  }
  size_t sessions = 0;
  status = ReceiveAndAdopt(channel, sessions);
  if (!status.ok()) {
    channel.Abort(status);
    // Sockets and paths are the other's: nothing may be done to them on the way out, not even a close in order.
    LetSessionsGo();
    ListenTable::Abandon(prepared.listening);
    return absl::FailedPreconditionError(std::string(status.message()));
  }
  std::vector<ListenTable::Entry> leaving = prepared.listening.leaving;
  for (const std::string& setting : prepared.listening.next_start) Log(LogLevel::kWarn, "taken over, but for the next start: ", setting);
  TakeListening(std::move(prepared.listening));
  OpenWorkers(/*thaw=*/true);
  ServeWhatWaits(leaving);
  takeover_socket_ = std::make_unique<TakeoverSocket>();
  if (absl::Status opened = takeover_socket_->Open(config_->takeover.socket); !opened.ok())
    Log(LogLevel::kError, std::string(opened.message()));
  NotifyMainProcess();  // before the other ends
  (void)channel.Send(MessageType::kServing);
  Log(LogLevel::kInfo, "took over sessions=", sessions);
  return absl::OkStatus();
}

// Until the other process says that the sessions are ours, or is dead.
absl::Status Process::ReceiveAndAdopt(Channel& channel, size_t& sessions) {
  absl::Status status = channel.Send(MessageType::kPause);
  absl::StatusOr<FrozenProcess> process = status.ok() ? ReceiveSessions(channel) : absl::StatusOr<FrozenProcess>(status);
  if (!process.ok()) process = UnlessAlive(channel, process.status());
  if (absl::IsUnavailable(process.status())) {
    Log(LogLevel::kError, "the other process died while it handed over: its sessions are lost, its listeners go on");
    process = FrozenProcess();
  }
  if (!process.ok()) return process.status();
  sessions = process->sessions.size();
  status = Adopt(*std::move(process));
  if (status.ok()) status = channel.Send(MessageType::kReady);
  // However long it takes: until it says so, or is gone, the sessions are the other's.
  while (status.ok() || absl::IsDeadlineExceeded(status)) {
    absl::StatusOr<Message> message = channel.Receive(kStepTimeout);
    status = message.status();
    if (status.ok() && message->type == MessageType::kCommit) return status;
  }
  status = UnlessAlive(channel, status);
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status Process::InheritListening(Channel& channel) {
  if (absl::Status status = channel.Send(MessageType::kHello, EncodeHello()); !status.ok()) return status;
  absl::StatusOr<Message> message = channel.Expect(MessageType::kOffer, kStepTimeout);
  if (!message.ok()) return message.status();
  absl::StatusOr<std::string> content = Channel::ContentOf(*message);
  if (!content.ok()) return content.status();
  std::optional<Offer> offer = DecodeOffer(*content);
  if (!offer.has_value()) return absl::InternalError("the other process's offer is not understood");
  size_t count = 0;
  for (const Offer::Listening& one : offer->listening) count += one.sockets;
  absl::StatusOr<std::vector<UniqueFd>> files = channel.ReceiveFiles(count);
  if (!files.ok()) return files.status();
  std::vector<ListenTable::Entry> entries;
  auto next = files->begin();
  for (const Offer::Listening& one : offer->listening) {
    absl::StatusOr<SocketAddress> configured = SocketAddress::Parse(one.configured), bound = SocketAddress::Parse(one.bound);
    if (!configured.ok() || !bound.ok()) return absl::InternalError("the other process's offer is not understood");
    ListenTable::Entry& entry = entries.emplace_back(one.listener, *configured, ListeningSockets{*bound, {}, one.device, one.inode});
    for (uint32_t i = 0; i < one.sockets; ++i) entry.sockets.sockets.push_back(std::make_shared<ListeningSocket>(std::move(*next++)));
  }
  listening_.Inherit(std::move(entries));
  return absl::OkStatus();
}

absl::StatusOr<FrozenProcess> Process::ReceiveSessions(Channel& channel) {
  absl::StatusOr<Message> state = channel.Expect(MessageType::kState, kPauseTimeout);
  if (!state.ok()) return state.status();
  size_t count = 0;
  auto [end, error] = std::from_chars(state->body.data(), state->body.data() + state->body.size(), count);
  if (error != std::errc() || state->files.size() != 1) return absl::InternalError("the other process's state is not understood");
  absl::StatusOr<std::string> content = ReadMemoryFile(state->files[0]);
  if (!content.ok()) return content.status();
  absl::StatusOr<FrozenProcess> process = DecodeProcess(*content, count);
  if (!process.ok())
    return absl::InternalError(absl::StrCat("the other process's state is not understood: ", std::string(process.status().message())));
  absl::StatusOr<std::vector<UniqueFd>> files = channel.ReceiveFiles(count);
  if (!files.ok()) return files.status();
  for (FrozenProcess::Entry& entry : process->sessions) TakeFiles(entry.session, *files);
  return process;
}

absl::Status Process::Adopt(FrozenProcess process) {
  topology_ = Topology::Inherit(process, worker_cells_.size(), Clock::now());
  InheritNames(process);
  Add(process.reloads, reload_cells_);
  std::shared_ptr<const Config> config = WithFoundServers(configured_);
  overrides_ = ServerOverrides::Inherit(process);
  overrides_.KeepFor(*config);
  Topology before = Install(overrides_.Apply(std::move(config)));
  topology_.GoOnFrom(process, Clock::now());
  UpdateRoutes(before);
  const std::vector<uint32_t>& workers = workers_.in_charge();
  std::map<uint32_t, WorkerUpdate> shares;
  std::map<std::pair<uint32_t, size_t>, ListenerRoute*> routes;
  for (size_t i = 0; i < process.sessions.size(); ++i) {
    FrozenProcess::Entry& entry = process.sessions[i];
    uint32_t worker = workers[i % workers.size()];
    WorkerUpdate& share = shares[worker];
    ListenerRoute*& route = routes[{worker, entry.route}];
    if (route == nullptr) {
      share.adopted_routes.push_back(topology_.MakeAdoptedRoute(process.routes[entry.route], worker, local_ports_));
      route = share.adopted_routes.back().get();
    }
    if (route == nullptr) return absl::InternalError("the other process's state names what it has not");
    share.adopt.push_back({std::move(entry.session), route});
  }
  for (uint32_t number = 0; number < process.workers.size(); ++number) shares[number].counted = std::move(process.workers[number]);
  std::atomic<bool> whole{true};
  workers_.Apply([&](uint32_t worker, bool) {
    WorkerUpdate update = std::move(shares[worker]);
    shares.erase(worker);
    SetLimits(update);
    update.adopted_whole = &whole;
    return update;
  });
  // What workers counted that there are not any more.
  for (auto& [number, share] : shares)
    if (share.counted.has_value()) {
      worker_cells_.Grow(number + 1);
      Add(*share.counted, worker_cells_[number]);
    }
  if (!whole) return absl::ResourceExhaustedError("no memory for what sessions hold; raise limits.memory");
  return absl::OkStatus();
}

// At addresses that the configuration does not have any more: the other process accepts no more, and closing them would reset who waits.
void Process::ServeWhatWaits(const std::vector<ListenTable::Entry>& leaving) {
  if (leaving.empty()) return;
  for (bool wait_there : {true, false})
    workers_.Apply([&](uint32_t worker, bool) {
      WorkerUpdate update = BeginUpdate();
      update.accept_from = AcceptancesOf(worker);
      if (!wait_there || worker != workers_.in_charge().front()) return update;
      for (const ListenTable::Entry& entry : leaving) {
        std::unique_ptr<ListenerRoute> route = topology_.MakeAdoptedRoute({entry.listener, topology_.UpstreamOf(entry.listener)}, worker,
                                                                          local_ports_);
        if (route == nullptr) continue;
        for (const auto& socket : entry.sockets.sockets) update.accept_from->push_back({socket, route->shared->number});
        update.routes.push_back(std::move(route));
      }
      return update;
    });
}

}  // namespace ringmain
