// Who is let in: access rules, limits and rates of the listener and of each client address.
//
//   address may connect ─► its source has room ─► process and listener have room ─► the listener's rate ─► file descriptors ─► a session
//
// Who is refused leaves no trace in what comes later: what one address does in vain takes nothing from others. The rate of the listener comes
// last of the limits, so that it is of clients that are let in.
#include <cerrno>
#include <utility>

#include "worker/worker.h"

namespace ringmain {

// No client of a listener that is being left is handed over: the other worker may have left it already, or never have known it.
void Worker::Admit(Listener& listener, int client, bool may_hand_over) {
  listener.route->listener_cells->accepted.Add();
  if (cut_.has_value()) {
    listener.route->listener_cells->closed[static_cast<size_t>(*cut_)].Add();
    io_->CloseWithReset(client);
    return;
  }
  uint32_t source = SourceTable::kNone;
  if (std::optional<CloseReason> reason = Reserve(*listener.route, client, source)) {
    Refuse(listener, client, *reason);
    return;
  }
  if (!waiting_.empty() || !shared_.files.TryAcquire()) {
    inbox_.AddConnection();
    waiting_.push_back({&listener, UniqueFd(client), source});
    PauseAccepting(EMFILE);
    return;
  }
  if (may_hand_over && HandOver(listener, client, source)) return;
  inbox_.AddConnection();
  sessions_->Open(client, *listener.route, source);
}

// Everything that a connection may take from others, or why it may not, with nothing reserved. `source` is set if it has one.
std::optional<CloseReason> Worker::Reserve(const ListenerRoute& route, int client, uint32_t& source) {
  if (route.access != nullptr || route.sources != nullptr)
    if (std::optional<CloseReason> reason = CheckAddress(route, client, source)) return reason;
  std::optional<CloseReason> reason = ReserveLimits(*route.shared);
  if (reason.has_value() && source != SourceTable::kNone) route.sources->TakeBack(source);
  return reason;
}

std::optional<CloseReason> Worker::CheckAddress(const ListenerRoute& route, int client, uint32_t& source) {
  std::optional<SocketAddress> address = io_->PeerAddress(client);
  if (!address.has_value()) return CloseReason::kClientLeft;  // it has reset the connection already
  if (route.access != nullptr && !Allowed(*route.access, *address)) return CloseReason::kAccessDenied;
  if (route.sources == nullptr) return std::nullopt;
  switch (route.sources->Admit(*address, Clock::now(), source)) {
    case SourceTable::Verdict::kAdmitted:
      return std::nullopt;
    case SourceTable::Verdict::kTooFast:
      return CloseReason::kSourceRate;
    case SourceTable::Verdict::kTooMany:
    case SourceTable::Verdict::kNoEntry:
      break;
  }
  return CloseReason::kSourceLimit;
}

std::optional<CloseReason> Worker::ReserveLimits(SharedListener& listener) {
  if (!shared_.limit.TryAcquire()) return CloseReason::kProcessLimit;
  std::optional<CloseReason> reason;
  if (!listener.limit.TryAcquire()) {
    reason = CloseReason::kListenerLimit;
  } else if (listener.accept_rate.pace().on() && !listener.accept_rate.TryTake(Clock::now())) {
    listener.limit.Release();
    reason = CloseReason::kAcceptRate;
  }
  if (reason.has_value()) shared_.limit.Release();
  return reason;
}

void Worker::Refuse(Listener& listener, int client, CloseReason reason) {
  listener.route->listener_cells->closed[static_cast<size_t>(reason)].Add();
  SharedListener& shared = listener.shared();
  LogLimiter* limiter = &shared.refused;
  std::optional<uint32_t> most;  // the limit that was reached, if it is one of connections
  switch (reason) {
    case CloseReason::kProcessLimit:
      limiter = &shared_.refused;
      most = shared_.limit.max();
      break;
    case CloseReason::kListenerLimit:
      most = shared.limit.max();
      break;
    case CloseReason::kSourceLimit:
      if (uint32_t max = shared.sources->limits().max_connections; max != UINT32_MAX) most = max;
      [[fallthrough]];
    case CloseReason::kSourceRate:
      limiter = &shared.source_refused;
      break;
    case CloseReason::kAcceptRate:
      limiter = &shared.rate_refused;
      break;
    default:
      limiter = &shared.access_refused;
  }
  if (std::optional<uint64_t> more = limiter->Admit(Clock::now())) {
    std::optional<SocketAddress> address = io_->PeerAddress(client);
    Log(LogLevel::kWarn, "connection refused listener=", shared.name, " client=", address.has_value() ? address->ToString() : "unknown",
        " reason=", std::string(ToString(reason)), most.has_value() ? absl::StrCat(" max_connections=", *most) : "",
        " not_logged=", *more);
  }
  io_->CloseWithReset(client);
  resume_ = paused_;
}

}  // namespace ringmain
