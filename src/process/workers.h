// Workers: the worker threads of the process, by number.
//
// As many as are configured are in charge: they accept clients. One that a reload takes out of charge accepts none any more, and ends when
// its last session has; a later reload may put it in charge again. Used by the process thread, but for ListSessions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "admin/admin_server.h"
#include "metrics/board.h"
#include "metrics/session_list.h"
#include "worker/worker.h"

namespace ringmain {

class Workers {
 public:
  // Both outlive it.
  Workers(WorkerShared& shared, PerWorker<WorkerCells>& cells) : shared_(shared), cells_(cells) {}

  // ---- To change how many there are ----

  // Sees to it that `count` could be in charge: starts those that are missing, which do nothing yet. Errors: no thread or ring; then as
  // before.
  absl::Status Prepare(Worker::Options options, size_t count);
  // Their numbers, after Prepare: those that stay in charge first.
  const std::vector<uint32_t>& prepared() const { return prepared_; }
  void Commit() { in_charge_ = prepared_; }
  // Ends those that Prepare has started.
  void Abandon();

  // ---- All that run ----

  const std::vector<uint32_t>& in_charge() const { return in_charge_; }
  // Those out of charge included.
  size_t size() const;
  // Has each carry out what `update` makes for it, and waits for all. `first` tells that it is the first for that worker.
  void Apply(const std::function<WorkerUpdate(uint32_t worker, bool first)>& update);
  void Post(uint32_t commands);
  // Ends those out of charge that have no sessions. True if one has gone.
  bool EndIdle();
  bool AllFinished() const;
  // Whether each has taken a turn since the last call; wakes up those that sleep, so that they will have by the next.
  bool AllTurn();
  // REQUIRES: each was told to finish.
  void Join();
  uint64_t sessions() const;
  std::vector<WorkerLayout> Show() const;

  // Any thread.
  SessionList ListSessions(uint32_t most);

 private:
  struct Member {
    std::shared_ptr<Worker> worker;  // none: the number is free
    bool updated = false;            // was updated before
    bool ending = false;             // was told to finish: nothing is asked of it any more
    std::optional<uint64_t> turns;   // completions it had counted at the last AllTurn
  };
  absl::Status StartAnother(Worker::Options options);
  bool InCharge(uint32_t number) const;
  void End(Member& member);

  WorkerShared& shared_;
  PerWorker<WorkerCells>& cells_;
  std::mutex mutex_;  // for `workers_`: held by whoever changes which there are, and by other threads that look
  std::vector<Member> workers_;
  std::vector<uint32_t> in_charge_;
  std::vector<uint32_t> prepared_;
};

}  // namespace ringmain
