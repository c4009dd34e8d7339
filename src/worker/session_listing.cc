#include "worker/session_listing.h"

#include <memory>
#include <utility>

namespace ringmain {

SessionListing::~SessionListing() {
  if (Request* waiting = waiting_.load(std::memory_order_acquire); waiting != &closed_) Free(waiting);
  Free(taken_);
  Free(finished_.load(std::memory_order_acquire));
}

std::future<SessionsFound> SessionListing::Ask(SessionQuery query, TimePoint give_up) {
  Free(finished_.exchange(nullptr, std::memory_order_acquire));
  auto request = std::make_unique<Request>();
  request->found.records.reserve(query.most);
  request->query = std::move(query);
  request->give_up = give_up;
  std::future<SessionsFound> answer = request->answer.get_future();
  if (Push(waiting_, request.get(), &closed_))
    static_cast<void>(request.release());
  else
    request->answer.set_value({});
  return answer;
}

bool SessionListing::Serve(Sessions& sessions, TimePoint now) {
  if (taken_ == nullptr) taken_ = waiting_.exchange(nullptr, std::memory_order_acquire);
  if (taken_ == nullptr) return false;
  std::optional<uint32_t> next;
  if (now < taken_->give_up) next = sessions.List(taken_->next_slot, kSessionsPerTurn, taken_->query, taken_->found);
  if (next.has_value())
    taken_->next_slot = *next;
  else
    Finish();
  return true;
}

void SessionListing::Close() {
  while (taken_ != nullptr) Finish();
  taken_ = waiting_.exchange(&closed_, std::memory_order_acq_rel);
  while (taken_ != nullptr) Finish();
}

// Answers the first request with what is in its list.
void SessionListing::Finish() {
  Request* request = std::exchange(taken_, taken_->next);
  request->answer.set_value(std::move(request->found));
  Push(finished_, request, nullptr);
}

// False if `closed` is on top.
bool SessionListing::Push(std::atomic<Request*>& stack, Request* request, const Request* closed) {
  Request* top = stack.load(std::memory_order_relaxed);
  do {
    if (closed != nullptr && top == closed) return false;
    request->next = top;
  } while (!stack.compare_exchange_weak(top, request, std::memory_order_release, std::memory_order_relaxed));
  return true;
}

void SessionListing::Free(Request* list) {
  while (list != nullptr) delete std::exchange(list, list->next);
}

}  // namespace ringmain
