#include "process/listen_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "uring/socket_options.h"

namespace ringmain {
namespace {

// Takes the sockets of that address out of the old entries, those of `listener` only if it is one.
bool Claim(ListenTable::Entries& old, const std::string* listener, ListenTable::Entry& entry) {
  for (std::vector<ListenTable::Entry>& entries : old) {
    auto found = std::find_if(entries.begin(), entries.end(), [&](const ListenTable::Entry& other) {
      return other.configured == entry.configured && (listener == nullptr || other.listener == *listener);
    });
    if (found == entries.end()) continue;
    entry.sockets = std::move(found->sockets);
    entries.erase(found);
    return true;
  }
  return false;
}

// What stays keeps its sockets: first each listener its own, since with port 0 several may have the same address, then what moves from one
// listener to another.
ListenTable::Entries Match(const Config& config, ListenTable::Entries& old) {
  ListenTable::Entries entries;
  for (const ListenerConfig& listener : config.listeners) {
    std::vector<ListenTable::Entry>& own = entries.emplace_back();
    for (const SocketAddress& address : listener.listen) {
      own.push_back({listener.name, address, {}});
      Claim(old, &listener.name, own.back());
    }
  }
  for (std::vector<ListenTable::Entry>& own : entries)
    for (ListenTable::Entry& entry : own)
      if (entry.sockets.sockets.empty()) Claim(old, nullptr, entry);
  return entries;
}

// The protocol of a socket is for good.
void NoteProtocol(const ListenTable::Entry& entry, const SocketOptions& options, std::vector<std::string>& notes) {
  const SocketAddress& address = entry.sockets.address;
  if (address.is_unix() || IsMptcp(entry.sockets.sockets[0]->fd.get()) == (options.mptcp && HasMptcp(address.family()))) return;
  notes.push_back(absl::StrCat("listener ", entry.listener, ": socket.mptcp: the sockets that listen on ", address.ToString(), " stay as they are"));
}

// One of them is a wildcard that covers the other.
bool Overlap(const SocketAddress& a, const SocketAddress& b) {
  return !a.is_unix() && a.family() == b.family() && a.port() == b.port() && (a.is_wildcard() || b.is_wildcard());
}

absl::Status OfListener(const ListenerConfig& listener, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::FailedPreconditionError(absl::StrCat("listener ", listener.name, ": ", std::string(status.message())));
}

}  // namespace

absl::StatusOr<ListenTable::Plan> ListenTable::Prepare(const Config& config, uint32_t workers) const {
  Plan plan;
  Entries old = entries_;
  absl::Status status;
  plan.entries = Match(config, old);
  auto overlaps_own = [&](const SocketAddress& address) {
    for (const std::vector<Entry>& entries : entries_)
      for (const Entry& entry : entries)
        if (Overlap(entry.sockets.address, address)) return true;
    return false;
  };
  for (size_t i = 0; i < plan.entries.size() && status.ok(); ++i) {
    const SocketOptions& options = config.listeners[i].socket;
    for (Entry& entry : plan.entries[i]) {
      if (entry.sockets.sockets.empty()) {
        auto bound = BindListeningSockets(entry.configured, workers, overlaps_own(entry.configured), options);
        status = OfListener(config.listeners[i], bound.status());
        if (!status.ok()) break;
        entry.sockets = *std::move(bound);
        plan.opened.push_back(entry.sockets);
      } else {
        status = OfListener(config.listeners[i], BindMore(entry.sockets, workers, options));
        if (!status.ok()) break;
        NoteProtocol(entry, options, plan.next_start);
      }
    }
  }
  if (!status.ok()) {
    Abandon(plan);
    return status;
  }
  for (std::vector<Entry>& entries : old)
    for (Entry& entry : entries) plan.leaving.push_back(std::move(entry));
  return plan;
}

absl::Status ListenTable::Commit(Plan plan, const Config& config) {
  absl::Status status;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const ListenerConfig& listener = config.listeners[i];
    for (Entry& entry : plan.entries[i])
      status.Update(OfListener(listener, Listen(entry.sockets, listener.backlog, listener.keepalive, listener.socket)));
  }
  for (const Entry& entry : plan.leaving) {
    RemoveUnixPath(entry.sockets);
    for (const auto& socket : entry.sockets.sockets) socket->leaving.store(true, std::memory_order_relaxed);
  }
  entries_ = std::move(plan.entries);
  return status;
}

void ListenTable::Abandon(const Plan& plan) {
  for (const ListeningSockets& sockets : plan.opened) RemoveUnixPath(sockets);
}

void ListenTable::LetGo() {
  for (std::vector<Entry>& entries : entries_)
    for (Entry& entry : entries) entry.sockets.sockets.clear();
}

void ListenTable::RemovePaths() const {
  for (const std::vector<Entry>& entries : entries_)
    for (const Entry& entry : entries) RemoveUnixPath(entry.sockets);
}

std::vector<std::vector<SocketAddress>> ListenTable::addresses() const {
  std::vector<std::vector<SocketAddress>> addresses;
  for (const std::vector<Entry>& entries : entries_) {
    std::vector<SocketAddress>& bound = addresses.emplace_back();
    for (const Entry& entry : entries) bound.push_back(entry.sockets.address);
  }
  return addresses;
}

std::vector<size_t> SocketsOfWorker(size_t sockets, size_t i, size_t workers) {
  std::vector<size_t> own;
  if (sockets == 1) {
    own.push_back(0);
    return own;
  }
  for (size_t socket = i; socket < sockets; socket += workers) own.push_back(socket);
  return own;
}

}  // namespace ringmain
