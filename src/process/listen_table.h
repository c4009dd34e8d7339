// ListenTable: the addresses that the process listens on.
//
// A socket is never closed while its address stays configured, whatever listener it belongs to: closing one of several resets what waits in
// its accept queue. Process thread only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "worker/listening_sockets.h"

namespace ringmain {

class ListenTable {
 public:
  struct Entry {
    std::string listener;
    SocketAddress configured;
    ListeningSockets sockets;  // no socket yet: the address is new
  };
  // By listener, in the order of the configuration, and by address.
  using Entries = std::vector<std::vector<Entry>>;
  struct Plan {
    Entries entries;
    std::vector<Entry> leaving;
    std::vector<ListeningSockets> opened;  // among the entries: addresses that are new
    std::vector<std::string> next_start;   // what of the configuration sockets that stay can not have any more
  };

  // What `config` makes of the table: new addresses are bound, and nobody can connect to them yet. Errors: the listener, the address and the
  // cause; nothing has changed.
  absl::StatusOr<Plan> Prepare(const Config& config, uint32_t workers) const;
  // Clients may connect to what is new, and no new ones to a unix address that leaves. Errors, which are very unlikely: as above.
  absl::Status Commit(Plan plan, const Config& config);
  // What another process listened on, or has opened for this one. REQUIRES: there is nothing yet.
  void Inherit(std::vector<Entry> entries) { entries_ = {std::move(entries)}; }
  // As if it had not been prepared.
  static void Abandon(const Plan& plan);
  // Leaves the sockets to the workers: each closes when the last of them lets go of it.
  void LetGo();
  // Removes the paths of unix addresses.
  void RemovePaths() const;

  const Entries& entries() const { return entries_; }
  // Bound addresses, by listener.
  std::vector<std::vector<SocketAddress>> addresses() const;

 private:
  Entries entries_;
};

// Which of `sockets` listening sockets worker `i` of `workers` accepts from: each socket has one worker, and one socket alone has all. Pure.
std::vector<size_t> SocketsOfWorker(size_t sockets, size_t i, size_t workers);

}  // namespace ringmain
