#include "process/workers.h"

#include <algorithm>
#include <future>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "process/list_sessions.h"

namespace ringmain {

absl::Status Workers::Prepare(Worker::Options options, size_t count) {
  prepared_ = in_charge_;
  if (prepared_.size() > count) prepared_.resize(count);
  for (uint32_t number = 0; number < workers_.size() && prepared_.size() < count; ++number) {
    const Member& member = workers_[number];
    if (member.worker != nullptr && !member.ending && !InCharge(number)) prepared_.push_back(number);
  }
  while (prepared_.size() < count) {
    absl::Status status = StartAnother(options);
    if (status.ok()) continue;
    Abandon();
    return status;
  }
  return absl::OkStatus();
}

absl::Status Workers::StartAnother(Worker::Options options) {
  auto free = std::find_if(workers_.begin(), workers_.end(), [](const Member& member) { return member.worker == nullptr; });
  auto number = static_cast<uint32_t>(free - workers_.begin());
  cells_.Grow(number + 1);
  shared_.inboxes.Grow(number + 1);
  options.id = number;
  auto worker = std::make_shared<Worker>(options, shared_, cells_[number]);
  try {
    if (absl::Status status = worker->Start(); !status.ok()) return status;
  } catch (const std::system_error& error) {  // std::thread
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start a thread: ", error.what(), "; raise the limit of processes or of memory (ulimit -u, ulimit -v, "
                     "the container's pids limit)"));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (number == workers_.size()) workers_.emplace_back();
  workers_[number] = {std::move(worker)};
  prepared_.push_back(number);
  return absl::OkStatus();
}

void Workers::Abandon() {
  for (uint32_t number : prepared_)
    if (!InCharge(number)) End(workers_[number]);
  prepared_ = in_charge_;
}

bool Workers::InCharge(uint32_t number) const {
  return std::find(in_charge_.begin(), in_charge_.end(), number) != in_charge_.end();
}

void Workers::End(Member& member) {
  member.ending = true;
  member.worker->Post(Worker::kStopAccepting | Worker::kFinish);
}

void Workers::Apply(const std::function<WorkerUpdate(uint32_t worker, bool first)>& update) {
  std::vector<std::future<void>> done;
  for (uint32_t number = 0; number < workers_.size(); ++number) {
    Member& member = workers_[number];
    if (member.worker == nullptr || member.ending) continue;
    done.push_back(member.worker->Apply(update(number, !std::exchange(member.updated, true))));
  }
  for (std::future<void>& one : done) one.get();
}

void Workers::Post(uint32_t commands) {
  for (Member& member : workers_)
    if (member.worker != nullptr) member.worker->Post(commands);
}

bool Workers::EndIdle() {
  bool gone = false;
  for (uint32_t number = 0; number < workers_.size(); ++number) {
    Member& member = workers_[number];
    if (member.worker == nullptr || InCharge(number)) continue;
    if (!member.ending && cells_[number].sessions.value() == 0 && shared_.inboxes[number].load().connections == 0) End(member);
    if (!member.worker->finished()) continue;
    member.worker->Join();
    std::lock_guard<std::mutex> lock(mutex_);
    member = {};
    gone = true;
  }
  return gone;
}

size_t Workers::size() const {
  return static_cast<size_t>(std::count_if(workers_.begin(), workers_.end(), [](const Member& member) { return member.worker != nullptr; }));
}

bool Workers::AllFinished() const {
  return std::all_of(workers_.begin(), workers_.end(),
                     [](const Member& member) { return member.worker == nullptr || member.worker->finished(); });
}

bool Workers::AllTurn() {
  bool all = true;
  for (uint32_t number = 0; number < workers_.size(); ++number) {
    Member& member = workers_[number];
    if (member.worker == nullptr || member.worker->finished()) continue;
    std::optional<uint64_t> before = std::exchange(member.turns, cells_[number].completions.value());
    if (member.turns == before) all = false;
    member.worker->Post(0);
  }
  return all;
}

void Workers::Join() {
  for (Member& member : workers_)
    if (member.worker != nullptr) member.worker->Join();
}

uint64_t Workers::sessions() const {
  int64_t sessions = 0;
  for (size_t i = 0; i < cells_.size(); ++i) sessions += cells_[i].sessions.value();
  return static_cast<uint64_t>(std::max<int64_t>(sessions, 0));
}

std::vector<WorkerLayout> Workers::Show() const {
  std::vector<WorkerLayout> layout;
  for (uint32_t number = 0; number < workers_.size(); ++number)
    if (workers_[number].worker != nullptr) layout.push_back({number, !InCharge(number)});
  return layout;
}

SessionList Workers::ListSessions(uint32_t most) {
  std::vector<std::shared_ptr<Worker>> workers;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const Member& member : workers_) workers.push_back(member.worker);
  }
  return ringmain::ListSessions(workers, cells_, most);
}

}  // namespace ringmain
