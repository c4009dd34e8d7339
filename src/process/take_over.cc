// The new process's side of a takeover: gets ready while the other still serves, receives everything, and serves when it is told to.
#include <charconv>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "log/log.h"
#include "process/process.h"
#include "takeover/frozen_metrics.h"
#include "takeover/offer.h"

namespace ringmain {
namespace {

constexpr Duration kStepTimeout = seconds(10);
constexpr Duration kPauseTimeout = seconds(30);  // the other closes its admin side and stands still

// Places in `files` become the file descriptors, which are the session's now.
void TakeFiles(FrozenSession& session, std::vector<UniqueFd>& files) {
  auto take = [&files](int& place) { place = files[static_cast<size_t>(place)].release(); };
  take(session.client_fd);
  if (session.established) take(session.server_fd);
  for (FrozenRelay& relay : session.relays) {
    if (relay.in_pipe == 0) continue;
    take(relay.pipe_read);
    take(relay.pipe_write);
  }
}

}  // namespace

absl::Status Process::TakeOver(Channel& channel) {
  absl::Status status = InheritListening(channel);
  if (!status.ok()) return status;  // Unavailable: nothing was passed
  Prepared prepared{config_, {}};
  status = Prepare(prepared);
  if (!status.ok()) {
    channel.Abort(status);
    return status;
  }
  status = channel.Send(MessageType::kPause);
  Inheritance inheritance;
  if (status.ok()) status = ReceiveSessions(channel, inheritance);
  if (absl::IsUnavailable(status)) {
    Log(LogLevel::kError, "the other process died while it handed over: its sessions are lost, its listeners go on");
    inheritance = {};
    status = absl::OkStatus();
  }
  size_t sessions = inheritance.process.sessions.size();
  std::vector<ListenTable::Entry> leaving = prepared.listening.leaving;
  if (status.ok()) status = Adopt(std::move(prepared), std::move(inheritance));
  if (!status.ok()) {
    channel.Abort(status);
    return status;
  }
  status = channel.Send(MessageType::kReady);
  // However long it takes: until it says so, or is gone, the sessions are the other's.
  while (status.ok() || absl::IsDeadlineExceeded(status)) {
    absl::StatusOr<Message> message = channel.Receive(kStepTimeout);
    status = message.status();
    if (status.ok() && message->type == MessageType::kCommit) break;
  }
  if (!status.ok() && !absl::IsUnavailable(status)) return absl::FailedPreconditionError(std::string(status.message()));
  OpenWorkers(/*thaw=*/true);
  ServeWhatWaits(leaving);
  if (absl::Status opened = takeover_socket_.Open(config_->takeover.socket); !opened.ok())
    Log(LogLevel::kError, std::string(opened.message()));
  (void)channel.Send(MessageType::kServing);
  Log(LogLevel::kInfo, "took over sessions=", sessions);
  return absl::OkStatus();
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

absl::Status Process::ReceiveSessions(Channel& channel, Inheritance& inheritance) {
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
  inheritance.process = *std::move(process);
  return absl::OkStatus();
}

absl::Status Process::Adopt(Prepared prepared, Inheritance inheritance) {
  FrozenProcess& process = inheritance.process;
  topology_ = Topology::Inherit(process, worker_cells_.size(), Clock::now());
  Topology before = Install(std::move(prepared));
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
