// SessionListing: where other threads ask a worker for a list of its sessions, or to close one.
//
// Requests wait in an atomic stack, so that neither side ever waits for the other to leave a lock. The worker makes a list in steps, one
// a loop turn, so that messages go on in between. All memory comes from the thread that asks and goes back to one: the worker allocates
// and frees nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>

#include "base/clock.h"
#include "metrics/session_list.h"
#include "session/sessions.h"

namespace ringmain {

class SessionListing {
 public:
  // Of a step; about a microsecond each.
  static constexpr uint32_t kSessionsPerTurn = 128;

  SessionListing() = default;
  SessionListing(const SessionListing&) = delete;
  SessionListing& operator=(const SessionListing&) = delete;
  // REQUIRES: no other thread uses it.
  ~SessionListing();

  // ---- Any thread ----

  // The worker must be woken up then. An answer that is not there at `give_up` need not come any more, and nothing is closed from then on.
  std::future<SessionsFound> Ask(SessionQuery query, TimePoint give_up);

  // ---- The worker's thread ----

  // Takes a step. True if there is more to do: to be called again in the next turn.
  bool Serve(Sessions& sessions, TimePoint now);
  // There are no sessions any more: who waits, and who asks from now on, gets an empty list.
  void Close();

 private:
  struct Request {
    SessionQuery query;
    TimePoint give_up;
    uint32_t next_slot = 0;
    SessionsFound found;
    std::promise<SessionsFound> answer;
    Request* next = nullptr;
  };

  static bool Push(std::atomic<Request*>& stack, Request* request, const Request* closed);
  static void Free(Request* list);
  void Finish();

  // Written by any thread.
  std::atomic<Request*> waiting_{nullptr};   // &closed_ once closed
  std::atomic<Request*> finished_{nullptr};  // for those who ask next to free

  // The worker thread's own.
  Request* taken_ = nullptr;  // a list; the first is in progress
  Request closed_;
};

}  // namespace ringmain
